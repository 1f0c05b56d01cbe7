"""A real browser and a JupyterLab for tests: Chromium of the system, driven by selenium; no network but this machine."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --host-resolver-rules=MAP\x20*\x20~NOTFOUND,\x20EXCLUDE\x20127.0.0.1"
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CANVAS = ".tmrn-explorer canvas"


def missing() -> str | None:
    """Why there is no browser to test with; None where there is one."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "needs selenium (pip install tmrn-edu[browser])"
    for programs in (BROWSERS, ("chromedriver",)):
        if not any(map(shutil.which, programs)):
            return f"needs {' or '.join(programs)} (apt-get install chromium chromium-driver)"
    return None


@contextmanager
def open_browser(user_data, size=(1100, 1300)):
    """A headless Chromium that finds no other machine; `user_data`: a fresh folder."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, BROWSERS)))
    *plain, resolver = FLAGS.split(" --host")
    for flag in plain[0].split() + ["--host" + resolver, f"--user-data-dir={user_data}", "--window-size=%d,%d" % size]:
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def wait(condition, seconds=60, every=0.1):
    """What `condition()` returns once it is true; fails after `seconds` with what it was last."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"still {found!r} after {seconds} s"
        time.sleep(every)


class View:
    """An explorer on the page that the driver shows."""

    def __init__(self, driver, number=0, seconds=60):
        self.driver = driver
        find = f"[...document.querySelectorAll('.tmrn-explorer')].filter((e) => e.explorer)[{number}]"
        self.find = f"const root = {find}; "
        wait(lambda: driver.execute_script(f"{self.find} return !!root?.dataset.matches"), seconds)
        self.canvas = driver.execute_script(f"{self.find} root.scrollIntoView(); return root.querySelector('canvas')")

    @classmethod
    def of(cls, driver, find, seconds=60):
        """Another widget with a canvas, to be pointed at and typed on; `find`: JavaScript for its outermost element."""
        view = cls.__new__(cls)
        view.driver, view.find = driver, f"const root = {find}; "
        view.canvas = wait(lambda: view.run("return root && root.querySelector('canvas')"), seconds)
        return view

    def run(self, code, *arguments):
        return self.driver.execute_script(self.find + code, *arguments)

    @property
    def state(self):
        return json.loads(self.run("return root.dataset.state"))

    @property
    def matches(self):
        cells = json.loads(self.run("return root.dataset.matches"))
        return [cell if cell is None else tuple(cell) for cell in cells]

    @property
    def words(self):
        return self.run("return root.querySelector('.line').innerText")

    def box(self):
        """Where the canvas is in the window, after bringing it there."""
        code = "const c = root.querySelector('canvas'); c.scrollIntoView(); const b = c.getBoundingClientRect(); return [b.x, b.y]"
        return self.run(code)

    def picture(self):
        return self.run("return root.querySelector('canvas').toDataURL()")

    def place(self, cell, t=None, row=0):
        """Where the middle of a cell is: pixels of the page, right and down from the canvas' upper left corner."""
        code = "const r = root.explorer.layout().rows[arguments[0]]; "
        code += "return root.explorer.middleOf(arguments[1] === null ? r.large : r.small[arguments[1]], arguments[2])"
        return self.run(code, row, t, list(cell))

    def colour(self, place):
        code = "const c = root.querySelector('canvas'), s = c.width / root.explorer.layout().width; "
        code += "return [...c.getContext('2d').getImageData(arguments[0] * s, arguments[1] * s, 1, 1).data]"
        return self.run(code, *place)

    def point(self, *places, finger=False):
        """Goes down at the first place, along the others, and up."""
        from selenium.webdriver.common.actions.action_builder import ActionBuilder
        from selenium.webdriver.common.actions.pointer_input import PointerInput

        boxes = [self.box()]
        while len(boxes) < 4 or len(set(map(tuple, boxes[-4:]))) > 1:  # a notebook may still be moving
            time.sleep(0.1)
            boxes.append(self.box())
        box = boxes[-1]
        pointer = PointerInput("touch" if finger else "mouse", "finger" if finger else "mouse")
        actions = ActionBuilder(self.driver, mouse=pointer, duration=30)
        for number, (x, y) in enumerate(places):
            actions.pointer_action.move_to_location(round(box[0] + x), round(box[1] + y))
            if number == 0:
                actions.pointer_action.pointer_down()
        actions.pointer_action.pointer_up()
        actions.perform()

    def press(self, *keys):
        self.canvas.send_keys(*keys)


class Lab:
    """A JupyterLab on loopback, with a token, serving one folder."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.token, self.folder = "of-a-test", folder
        self.url = f"http://127.0.0.1:{port}"
        places = {name: str(folder / ".jupyter" / name.lower()) for name in ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")}
        self.runtime = places["RUNTIME_DIR"]
        self.environment = os.environ | {f"JUPYTER_{name}": place for name, place in places.items()}
        self.environment |= {
            "JUPYTERLAB_SETTINGS_DIR": str(folder / ".jupyter" / "settings"),
            "IPYTHONDIR": str(folder / ".ipython"),
        }
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--expose-app-in-browser", "--allow-root"]
        command += [f"--ServerApp.port={port}", "--ServerApp.ip=127.0.0.1", f"--IdentityProvider.token={self.token}"]
        command += [
            f"--ServerApp.root_dir={folder}",
            "--LabApp.news_url=",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        ]
        self.log = open(folder / "lab.log", "w")
        self.process = subprocess.Popen(command, env=self.environment, stdout=self.log, stderr=self.log)
        wait(self._answers, 120, 0.3)

    def _answers(self):
        assert self.process.poll() is None, (self.folder / "lab.log").read_text()
        try:
            return self.get("/api/status")
        except OSError:
            return None

    def get(self, path, method="GET"):
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(self.url + path, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read() or b"null")

    def kernel(self, name):
        """The id of the kernel of a notebook that is open."""
        kernels = lambda: [
            one["kernel"]["id"] for one in self.get("/api/sessions") if one["path"] == name and one["kernel"]
        ]
        return wait(kernels, 120)[0]

    def stop_kernel(self, name):
        kernel = self.kernel(name)
        self.get(f"/api/kernels/{kernel}", "DELETE")
        wait(lambda: kernel not in [one["id"] for one in self.get("/api/kernels")])

    def trust(self, name):
        subprocess.run(
            [sys.executable, "-m", "jupyter", "trust", name],
            cwd=self.folder,
            env=self.environment,
            check=True,
            capture_output=True,
        )

    def show(self, driver, name):
        """Opens a notebook, and none else."""
        driver.get(f"{self.url}/lab/tree/{name}?token={self.token}&reset")
        wait(lambda: driver.execute_script("return document.querySelectorAll('.jp-Notebook .jp-Cell').length"), 120)

    def run_all(self, driver):
        driver.execute_async_script(
            "const done = arguments[0]; window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => done(), () => done());"
        )

    def python(self, name):
        """Asks the kernel of a notebook: a function of an expression, which gives its value as JSON has it; and one that ends this."""
        from jupyter_client import BlockingKernelClient

        file = os.path.join(self.runtime, f"kernel-{self.kernel(name)}.json")
        client = BlockingKernelClient(connection_file=file)
        client.load_connection_file()
        client.start_channels()

        def ask(expression, statement=""):
            message = client.execute(
                statement,
                silent=False,
                store_history=False,
                user_expressions={"x": f"__import__('json').dumps({expression})"},
            )
            reply = wait(
                lambda: next(
                    (r for r in [client.get_shell_msg(timeout=60)] if r["parent_header"]["msg_id"] == message), None
                )
            )
            content = reply["content"]
            assert content["status"] == "ok", content
            assert content["user_expressions"]["x"]["status"] == "ok", content
            return json.loads(content["user_expressions"]["x"]["data"]["text/plain"][1:-1])

        return ask, client.stop_channels

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.log.close()
