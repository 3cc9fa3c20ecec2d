"""Say what a checkpoint is: kind, encoders, architecture, and what its tensors are called in mocox."""

from mocox.commands import main

if __name__ == '__main__':
    main('inspect')
