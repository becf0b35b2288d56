"""What people and programs see of a station: pages, JSON and metrics, over HTTP."""
