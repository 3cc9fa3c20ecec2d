"""Pictures of what a model sees and has learned: ``tools/visualize.py {views,attention,neighbours,embedding}``."""

from mocox.commands import main

if __name__ == '__main__':
    main('visualize')
