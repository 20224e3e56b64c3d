"""How the reader's adapter is made: data, training, evaluation, export. Not part of the program."""
