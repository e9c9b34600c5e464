"The notebooks are the source: every cell runs, and the modules are what they export."
import json
import filecmp
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT/'nbs').rglob('*.ipynb'))


@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(nb):
    "In a process of its own, as a reader would run it."
    env = {**os.environ, 'MPLBACKEND': 'agg'}
    r = subprocess.run([Path(sys.executable).parent/'nbdev-test', '--n-workers', '0', str(nb)], cwd=ROOT, env=env,
                       capture_output=True, text=True, timeout=900)
    assert r.returncode == 0, (r.stdout+r.stderr)[-4000:]


def test_modules_in_sync(tmp_path):
    "Exporting the notebooks again gives the modules that are here."
    for name in ('nbs', 'fastproaudio', 'pyproject.toml', 'settings.ini', 'setup.py', 'README.md'):
        src = ROOT/name
        skip = shutil.ignore_patterns('bundle', '__pycache__', '*.flac')
        shutil.copytree(src, tmp_path/name, ignore=skip) if src.is_dir() else shutil.copy(src, tmp_path/name)
    subprocess.run([Path(sys.executable).parent/'nbdev-export'], cwd=tmp_path, check=True, capture_output=True)
    old = {p.relative_to(ROOT) for p in (ROOT/'fastproaudio').rglob('*.py')}
    new = {p.relative_to(tmp_path) for p in (tmp_path/'fastproaudio').rglob('*.py')}
    assert new == old
    differ = [str(p) for p in sorted(new) if not filecmp.cmp(ROOT/p, tmp_path/p, shallow=False)]
    assert not differ, f'run `make notebooks`: {differ} differ from their notebooks'


def test_notebooks_are_clean_and_small():
    for nb in NOTEBOOKS: assert nb.stat().st_size < 400_000, f'{nb.name} is {nb.stat().st_size/1000:.0f} kB'
    for nb in NOTEBOOKS:
        kinds = {o.get('name') for c in json.loads(nb.read_text())['cells'] for o in c.get('outputs', [])}
        why = f'{nb.name} keeps what went to stderr, which names places on one machine; leave it out'
        assert 'stderr' not in kinds, why


def test_readme_in_sync():
    "README.md says what nbs/index.ipynb says."
    sys.path.insert(0, str(ROOT/'tools'))
    from readme import make_readme
    assert (ROOT/'README.md').read_text() == make_readme(ROOT/'nbs'/'index.ipynb'), 'run `make notebooks`'
