"""A headless Chromium, driven over a pipe by the DevTools protocol, without a library.

https://chromedevtools.github.io/devtools-protocol/ has the methods that Page.call() takes.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Page:
    """A page of a browser whose commands are written to `commands` and whose answers come from `answers`."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = os.fdopen(commands, "wb"), os.fdopen(answers, "rb")
        self._count, self._read, self._session = 0, b"", {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": session}

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and return its result; what the browser says in between is passed over."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params, **self._session}
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while True:
            while b"\0" not in self._read:
                self._read += (part := os.read(self._answers.fileno(), 1 << 20))
                assert part, "the browser is gone"
            answer, _, self._read = self._read.partition(b"\0")
            answer = json.loads(answer)
            if answer.get("id") == self._count:
                assert "result" in answer, answer
                return answer["result"]

    def evaluate(self, expression: str, **where: Any) -> Any:
        """Return the value of a JavaScript expression; a promise is waited for."""
        options = {"expression": expression, "awaitPromise": True, "returnByValue": True, **where}
        done = self.call("Runtime.evaluate", **options)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def wait_for(self, expression: str, **where: Any) -> Any:
        """Return the first true value of a JavaScript expression, or its last one after half a minute."""
        until = (
            f"new Promise(done => {{ const end = Date.now() + 30000; (function look() {{ const found = {expression}; "
            "found || Date.now() > end ? done(found) : setTimeout(look, 20) })() })"
        )
        return self.evaluate(until, **where)

    def open(self, url: str) -> None:
        """Load a page, to the end."""
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState == 'complete'")

    def wait_for_in_frame(self, expression: str) -> Any:
        """Do what wait_for() does in the page's only frame, wherever its content is from."""
        source = self.wait_for("document.querySelector('iframe')?.src")
        for _ in range(1500):  # until what it held before its content is gone, half a minute at most
            frame = self.call("Page.getFrameTree")["frameTree"]["childFrames"][0]["frame"]
            if frame["url"] == source:
                break
            self.evaluate("new Promise(done => setTimeout(done, 20))")
        world = self.call("Page.createIsolatedWorld", frameId=frame["id"])["executionContextId"]
        return self.wait_for(expression, contextId=world)


@contextmanager
def chromium(binary: str, profile: Path) -> Iterator[Page]:
    """Start Chromium with its profile in an empty folder, and end it."""
    theirs, commands = os.pipe()
    answers, ours = os.pipe()
    # The browser reads from 3 and writes to 4. Frames stay in one process, so that one session sees all.
    options = (
        "--headless --no-sandbox --disable-gpu --remote-debugging-pipe --window-size=1280,900 "
        "--disable-site-isolation-trials --disable-features=IsolateOrigins,site-per-process"
    )
    started = f'exec "$0" --user-data-dir="$1" {options} 3<&{theirs} 4>&{ours}'
    browser = subprocess.Popen(
        ["bash", "-c", started, binary, str(profile)],
        pass_fds=(theirs, ours),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    os.close(ours)
    try:
        yield Page(commands, answers)
    finally:
        browser.terminate()
        browser.wait(timeout=30)
