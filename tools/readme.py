"Write README.md from nbs/index.ipynb: markdown as it is, code in fences, cells marked `#| hide` left out."
import json
import re
import sys
from pathlib import Path


def make_readme(nb):
    "The text of the README that `nb` stands for."
    parts = []
    for cell in json.loads(Path(nb).read_text(encoding='utf-8'))['cells']:
        src = ''.join(cell['source']).strip()
        if re.match(r'#\| (hide|default_exp)', src) or not src: continue
        if cell['cell_type'] == 'markdown': parts.append(src.replace('](images/', '](nbs/images/'))
        else: parts.append('```python\n'+re.sub(r'^#\|.*\n', '', src, flags=re.M)+'\n```')
    return '\n\n'.join(parts)+'\n'


if __name__ == '__main__':
    root = Path(__file__).parents[1]
    (root/'README.md').write_text(make_readme(root/'nbs'/'index.ipynb'), encoding='utf-8')
    sys.stdout.write('README.md written from nbs/index.ipynb\n')
