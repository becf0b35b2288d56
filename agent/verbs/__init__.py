"""The verbs of the command line: each group is a module that gives the parser its options and does what they ask."""
