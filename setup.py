"Thin reader of settings.ini, the single source of project metadata."
import re
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

here = Path(__file__).parent
cp = ConfigParser(delimiters=['='], interpolation=None)
cp.read(here/'settings.ini', encoding='utf-8')
cfg = cp['DEFAULT']
extras = {k.removesuffix('_requirements'): v.split() for k,v in cfg.items() if k.endswith('_requirements')}
extras['all'] = sorted({r for k,v in extras.items() if k not in ('dev', 'bench') for r in v})
status = {'1': '1 - Planning', '2': '2 - Pre-Alpha', '3': '3 - Alpha', '4': '4 - Beta', '5': '5 - Production/Stable'}

setup(
    name=cfg['lib_name'],
    version=re.search(r'^__version__ = "(.+)"', (here/'fastproaudio/__init__.py').read_text(), re.M)[1],
    description=cfg['description'],
    long_description=(here/'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author=cfg['author'],
    license=cfg['license'],
    keywords=cfg['keywords'].split(),
    classifiers=[f"Development Status :: {status[cfg['status']]}", 'Programming Language :: Python :: 3',
                 'Topic :: Multimedia :: Sound/Audio', 'Framework :: Jupyter'],
    packages=find_packages(include=['fastproaudio', 'fastproaudio.*']),
    package_data={'fastproaudio': ['bundle/**/*']},
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg['requirements'].split(),
    extras_require=extras,
    entry_points={'console_scripts': ['fastproaudio=fastproaudio.cli:main'],
                  'nbdev': ['fastproaudio=fastproaudio._modidx:d']},
    zip_safe=False,
)
