"""A JupyterLab server of its own, and a headless Chromium that runs a notebook in it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

SETTINGS = {
    "@jupyterlab/apputils-extension/notification.jupyterlab-settings": {
        "fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True,
    },
    "@jupyterlab/notebook-extension/tracker.jupyterlab-settings": {"windowingMode": "none"},
}  # fmt: skip
READY = """
const done = arguments[arguments.length - 1];
const app = window.jupyterapp;
if (!app) { done(false); return; }
app.restored.then(() => {
  const panel = app.shell.currentWidget;
  const kernel = panel?.sessionContext?.session?.kernel;
  done(Boolean(panel?.context?.isReady && kernel
       && kernel.connectionStatus === 'connected' && kernel.status === 'idle'));
});
"""
RUN_ALL = "window.jupyterapp.commands.execute('notebook:run-all-cells');"
# Whether the last cell of code has put something out, and the errors of any cell.
OUTPUTS = """
const cells = window.jupyterapp.shell.currentWidget.context.model.sharedModel.cells;
const code = cells.filter(c => c.cell_type === 'code');
const errors = code.flatMap(c => c.outputs).filter(o => o.output_type === 'error');
return [code[code.length - 1].outputs.length > 0, errors.map(o => o.ename + ': ' + o.evalue)];
"""


def browser_paths():
    """Chromium and its driver, or None where one is absent."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


@contextmanager
def server(root: Path, home: Path):
    """JupyterLab on a free port of the loopback with a home of its own; yields its address."""
    folder = home / "settings"
    for name, content in SETTINGS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "HOME": str(home), "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"), "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder), "IPYTHONDIR": str(home / "ipython"),
    }  # fmt: skip
    command = [
        sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root",
        f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=",
        f"--ServerApp.root_dir={root}", "--LabApp.expose_app_in_browser=True",
        "--LabApp.extension_manager=readonly",
    ]  # fmt: skip
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        wait(lambda: _answers(f"{address}/api/status"), seconds=60, what="JupyterLab to start")
        yield address
    finally:
        process.terminate()
        process.wait(timeout=20)


@contextmanager
def chromium(width=1400, height=1000):
    """A headless Chromium."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    browser, driver = browser_paths()
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for word in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{word}")
    options.add_argument(f"--window-size={width},{height}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    window = webdriver.Chrome(options=options, service=Service(driver))
    window.set_script_timeout(60)
    try:
        yield window
    finally:
        window.quit()


def run_notebook(window, address: str, name: str, *, seconds: float = 300):
    """Open a notebook, run all its cells, wait until the last cell of code has an output.

    The kernel's idle indicator is no sign of the end: it is idle before the first cell as well.
    """
    window.get(f"{address}/lab/tree/{name}?reset")
    wait(lambda: window.execute_async_script(READY), seconds=90, what="the kernel")
    window.execute_script(RUN_ALL)

    def finished():
        done, errors = window.execute_script(OUTPUTS)
        if errors:
            raise AssertionError(f"{name}: {errors[0]}")
        return done

    wait(finished, seconds=seconds, what=f"the last cell of {name}")


def _answers(url):
    try:
        return urlopen(url, timeout=2).status == 200
    except OSError:
        return False


def wait(condition, *, seconds, what):
    """Ask twice a second until it is true; TimeoutError says what was waited for."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.5)
    raise TimeoutError(f"Waited {seconds:.0f} s in vain for {what}.")
