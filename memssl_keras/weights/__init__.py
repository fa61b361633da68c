"""An encoder to and from a folder: own format, torch names, configurations of other libraries, training state."""
