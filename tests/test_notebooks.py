"The notebooks are the source: every cell runs, and the modules are what they export."
import json
import filecmp
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from notebook_server import run_notebook

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT/'nbs').rglob('*.ipynb'))


@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(nb):
    "From its first cell to its last, in a process of its own."
    code, _, said = run_notebook(nb)
    assert code == 0, said[-4000:]


def test_a_notebook_that_fails_is_noticed(tmp_path):
    "A cell that raises, a name that only another notebook imports, a process that dies."
    good, bad = "x = 1\nassert x == 1", ['assert 1 == 2', 'fastproaudio', 'import os; os._exit(3)']
    for i, src in enumerate([good, *bad, good]):
        cell = dict(cell_type='code', id='a', execution_count=None, metadata={}, outputs=[], source=[src])
        nb = tmp_path/f'0{i}_a.ipynb'
        nb.write_text(json.dumps(dict(cells=[cell], metadata={}, nbformat=4, nbformat_minor=5)))
        assert (run_notebook(nb)[0] == 0) == (src == good), src


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
