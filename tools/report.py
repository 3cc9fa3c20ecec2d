"""Write report.html, one page that says whether runs learn: ``python tools/report.py WORK_DIR...``."""

from mocox.commands import main

if __name__ == '__main__':
    main('report')
