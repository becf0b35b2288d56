"""capture-agent: takes enforcement recordings off docked recorders and proves that they are safe."""

__version__ = "0.1.0"
