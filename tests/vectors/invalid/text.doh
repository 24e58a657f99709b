this is a text file and not a picture at all
