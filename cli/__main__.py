"""`python -m streamgauge.cli`: how child processes are started."""

from streamgauge.cli import main

main()
