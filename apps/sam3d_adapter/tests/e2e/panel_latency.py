"""How long a click takes to be on screen: ``python -m tests.e2e.panel_latency DICOM_FOLDER I,J,K [APP ...]``.

From the release of the mouse button to the mask on screen, and the tasks of more than 50 ms in the page meanwhile, by
whose script they are. Each APP is the folder of an app (this one, if left out); its clicks alternate with the others'.
Where ``SAM3D_OHIF`` names the folder of a built OHIF, each app is measured in that as well.
"""

import contextlib
import itertools
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.e2e.scenes import voxel_centre
from tests.support.dicom_study import read_study
from tests.support.ohif import open_browser
from tests.support.orthanc import start_orthanc
from tests.support.panel import Panel
from tests.support.server import APP_DIR, copy_app, start_server

_CLICKS = 20
_WATCH_TASKS = """() => {
  window.longFrames = [];
  new PerformanceObserver(list => {
    for (const frame of list.getEntries()) {
      for (const s of frame.scripts) {
        window.longFrames.push({ms: s.duration, url: s.sourceURL, name: s.sourceFunctionName, by: s.invoker});
      }
    }
  }).observe({type: 'long-animation-frame', buffered: false});
}"""


def main(folder: str, voxel: str, *apps: str) -> None:
    """Prints a line for each app, and its longest tasks."""
    study = read_study(Path(folder))
    i, j, k = (int(part) for part in voxel.split(","))
    middle = study.geometry.lps((i, j, k))
    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pacs = stack.enter_context(start_orthanc(root / "orthanc"))
        pacs.store(study.instances)
        browser = stack.enter_context(open_browser())
        panels: list[tuple[str, Panel]] = []
        viewers = dict.fromkeys((None, os.environ.get("SAM3D_OHIF") or None))
        for n, (app, viewer) in enumerate(itertools.product(apps or (str(APP_DIR),), viewers)):
            copied = copy_app(root / f"app{n}", source=Path(app))
            conf = {"ohif": viewer} if viewer else {}
            server = stack.enter_context(start_server(copied, pacs.dicomweb_url, root / f"server{n}", conf=conf))
            panel = Panel(browser.new_context(viewport={"width": 1600, "height": 1000}).new_page(), server.url)
            panel.open(study)
            panel.watch_latency()
            panel.page.evaluate(_WATCH_TASKS)
            panels.append((f"{app} in {viewer or 'the OHIF of MONAI Label'}", panel))
        seconds: dict[str, list[float]] = {app: [] for app, _ in panels}
        for n in range(_CLICKS + 1):
            off = (4.0 * (n % 4), 3.0 * (n % 3), 5.0 * (n % 2))
            for app, panel in panels:
                panel.page.bring_to_front()
                panel.click(voxel_centre(study.geometry, middle, off), "mpr-axial")
                panel.wait()
                panel.page.wait_for_function("n => window.latencies.length > n", arg=n)
                said = panel.message().partition("answered in ")[2].partition(" s")[0]
                seconds[app].append(float(said or "nan"))
        for app, panel in panels:
            first, *further = panel.latencies()
            p50, p95 = np.percentile(further, (50, 95))
            server_p50 = 1000 * np.nanpercentile(seconds[app][1:], 50)
            print(f"{app}: first {first:.0f} ms, further p50 {p50:.0f}, p95 {p95:.0f} ms (server p50 {server_p50:.0f})")
            _print_tasks(panel.page.evaluate("() => window.longFrames"))


def _print_tasks(tasks: list[dict[str, Any]]) -> None:
    own = [task for task in tasks if "/sam3d/" in task["url"]]
    print(f"  own scripts: {len(own)} over 5 ms, longest {max((task['ms'] for task in own), default=0):.0f} ms")
    for task in sorted(tasks, key=lambda task: -task["ms"])[:12]:
        print(f"  {task['ms']:6.0f} ms  {task['url'].rpartition('/')[2]}  {task['name']}  by {task['by']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
