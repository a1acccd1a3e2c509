# SPDX-License-Identifier: Apache-2.0
import pytest


@pytest.fixture(scope="session", autouse=True)
def quick_exports():
    try:
        import onnxscript  # noqa: F401
        import traces
    except ImportError:  # the tests say so themselves
        return
    traces.quicken()


@pytest.fixture(scope="session", autouse=True)
def sgt_builds(request, quick_exports, tmp_path_factory):
    """The bundles of test_sgt.py by name, in the making from the session's beginning; (folder, state, vae) of all."""
    if not any(item.path.name == "test_sgt.py" for item in request.session.items):
        yield None
        return
    import sgt
    import traces

    folder = tmp_path_factory.mktemp("sgt") / "checkpoint"
    state, vae = sgt.checkpoint(folder)
    with traces.second_process() as process:
        builds = {name: process.submit(sgt.build, folder, name, changes) for name, changes in sgt.BUNDLES.items()}
        builds |= {name: process.submit(sgt.errors, folder, name) for name in ("bf16", "int8", "fp16")}
        yield builds, (folder, state, vae)
        for one in builds.values():
            one.cancel()
