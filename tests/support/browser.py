"""Pages in a real browser, Chromium without a window, driven through its pipe: nothing to install but Chromium."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ('chromium', 'chromium-browser', 'google-chrome')
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), '')
FLAGS = ('--headless=new', '--no-sandbox', '--disable-gpu', '--remote-debugging-pipe', '--disable-dev-shm-usage')


class Page:
    """One tab; remembers what it complained of."""

    def __init__(self, write: int, read: int) -> None:
        self.write, self.read, self.buffer, self.number, self.session = write, read, b'', 0, None
        self.complaints: list[str] = []
        self.loaded = False
        self.requests: list[str] = []
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        self.session = self.call('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self.call(f'{domain}.enable')

    def open(self, path: Path, width: int, dark: bool = False, height: int = 900) -> None:
        """Shows a file as a window of this width does, at one physical pixel for each of CSS."""
        phone = width < 500
        self.call('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = dict(name='prefers-color-scheme', value='dark' if dark else 'light')
        self.call('Emulation.setEmulatedMedia', features=[scheme])
        self.loaded = False
        self.call('Page.navigate', url=path.resolve().as_uri())
        while not self.loaded:
            self._receive()

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call('Runtime.evaluate', expression=expression, returnByValue=True)
        assert 'exceptionDetails' not in answer, answer
        return answer['result'].get('value')

    def move(self, x: float, y: float) -> None:
        """Puts the mouse somewhere."""
        self.call('Input.dispatchMouseEvent', type='mouseMoved', x=x, y=y)

    def screenshot(self, path: Path, whole: bool = True) -> None:
        """Writes what is seen, or the whole page, as PNG."""
        answer = self.call('Page.captureScreenshot', captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer['data']))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Sends a command of the DevTools protocol and waits for its answer."""
        self.number += 1
        message = dict(id=self.number, method=method, params=params)
        if self.session:
            message['sessionId'] = self.session
        os.write(self.write, json.dumps(message).encode() + b'\0')
        while True:
            answer = self._receive()
            if answer.get('id') == self.number:
                assert 'error' not in answer, answer
                return answer['result']

    def _receive(self) -> dict[str, Any]:
        while b'\0' not in self.buffer:
            part = os.read(self.read, 1 << 20)
            assert part, 'the browser has gone'
            self.buffer += part
        line, _, self.buffer = self.buffer.partition(b'\0')
        message = json.loads(line)
        params = message.get('params', {})
        match message.get('method'):
            case 'Page.loadEventFired':
                self.loaded = True
            case 'Runtime.exceptionThrown':
                self.complaints.append(str(params['exceptionDetails']))
            case 'Runtime.consoleAPICalled' if params['type'] in ('error', 'warning', 'assert'):
                self.complaints.append(str(params['args']))
            case 'Log.entryAdded' if params['entry']['level'] in ('error', 'warning'):
                self.complaints.append(str(params['entry']))
            case 'Network.requestWillBeSent':
                self.requests.append(params['request']['url'])
        return message


@contextlib.contextmanager
def open_browser() -> Iterator[Page]:
    """Starts Chromium with a profile of its own, and ends it."""
    to_child, our_write = os.pipe()
    our_read, from_child = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = ['bash', '-c', f'exec 3<&{to_child} 4>&{from_child}; exec "$@"', 'bash', CHROMIUM, *FLAGS]
        process = subprocess.Popen(
            [*command, f'--user-data-dir={profile}', 'about:blank'],
            pass_fds=(to_child, from_child), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_child)
        os.close(from_child)
        try:
            yield Page(our_write, our_read)
        finally:
            process.kill()
            process.wait()
            os.close(our_write)
            os.close(our_read)
