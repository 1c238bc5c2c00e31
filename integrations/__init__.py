"""Doors out: one package per kind of neighbour, one file per neighbour; vendor words stop at that file."""
