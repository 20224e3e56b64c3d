"""How people meet the program: the command line (`cli`) and the page (`page`)."""
