"""The browser's tracker, for the collector to serve: built from `src/`, which is JavaScript.

`npm ci && npm run build` in this folder builds it anew; docs/tracker.md says what it does.
"""

from pathlib import Path

SCRIPT = Path(__file__).with_name("tracker.js")
"""The one file that a page loads."""
