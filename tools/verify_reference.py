"""Replay a recorded trace of the official MoCo with mocox, and compare every number."""

from mocox.commands import main

if __name__ == '__main__':
    main('verify')
