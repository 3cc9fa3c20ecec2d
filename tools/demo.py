"""Pre-train on 1,797 handwritten digits and evaluate, in minutes, on a CPU: ``python tools/demo.py``."""

from mocox.commands import main

if __name__ == '__main__':
    main('demo')
