"""examples/1-hello-world: Faust's own first program, changed only where the app is made."""

import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "1-hello-world" / "hello.py"

# The program of Faust's README.
ORIGINAL = """
import faust

class Greeting(faust.Record):
    from_name: str
    to_name: str

app = faust.App('hello-app', broker='kafka://localhost')
topic = app.topic('hello-topic', value_type=Greeting)

@app.agent(topic)
async def hello(greetings):
    async for greeting in greetings:
        print(f'Hello from {greeting.from_name} to {greeting.to_name}')

@app.timer(interval=1.0)
async def example_sender(app):
    await hello.send(
        value=Greeting(from_name='Faust', to_name='you'),
    )

if __name__ == '__main__':
    app.main()
"""


def statements(source):
    return [line.replace("'", '"') for line in source.splitlines() if line.strip()]


def test_only_the_lines_that_make_the_app_differ():
    ours, theirs = statements(EXAMPLE.read_text()), statements(ORIGINAL)
    assert [line for line in theirs if line not in ours] == [
        'app = faust.App("hello-app", broker="kafka://localhost")'
    ]
    assert [line for line in ours if line not in theirs] == [
        "from streamgauge.streams.engine import App",
        'app = App("hello-app", broker="kafka://localhost:9092")',
    ]


@pytest.mark.kafka
def test_hello_world_greets(kafka, namespace, tmp_path):
    source = EXAMPLE.read_text().replace("localhost:9092", kafka)
    program = tmp_path / "hello.py"
    program.write_text(re.sub(r"hello-(app|topic)", rf"{namespace}-\1", source))
    command = [sys.executable, "-u", str(program), "worker", "-l", "info"]
    worker = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path
    )
    watchdog = threading.Timer(180, worker.kill)
    watchdog.start()
    seen = []
    try:
        assert worker.stdout is not None
        for line in worker.stdout:
            seen.append(line)
            if "Hello from Faust to you" in line:
                break
        worker.send_signal(signal.SIGTERM)
        seen += worker.communicate(timeout=60)[0].splitlines(keepends=True)
    finally:
        watchdog.cancel()
        worker.kill()
    assert any("Hello from Faust to you" in line for line in seen), "".join(seen[-40:])
