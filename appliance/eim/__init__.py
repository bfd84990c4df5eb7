"""One model behind one socket: the program in our .eim, how it is packed, how it is driven."""
