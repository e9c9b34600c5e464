"Getting data from a server that does everything wrong: nothing leaves this machine."
import errno,hashlib,io,json,os,stat,tarfile,threading,zipfile
from functools import partial
from http.server import BaseHTTPRequestHandler,ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from fastai.data.external import URLs
from fastproaudio.data import download, fetch, get_audio_data, get_audio_files, zenodo_url_to_data_url

md5 = lambda b: hashlib.md5(b).hexdigest()

def wav(seed=0, n=4000):
    f = io.BytesIO()
    sf.write(f, np.random.default_rng(seed).uniform(-.5, .5, n), 8000, format='WAV', subtype='PCM_16')
    return f.getvalue()

def zipped(files, **kw):
    f = io.BytesIO()
    with zipfile.ZipFile(f, 'w', **kw) as z:
        for name,b in files.items(): z.writestr(name, b)
    return f.getvalue()

def tarred(files, mode='w:gz'):
    f = io.BytesIO()
    with tarfile.open(fileobj=f, mode=mode) as t:
        for name,b in files.items():
            i = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            i.size = len(b)
            t.addfile(i, io.BytesIO(b))
    return f.getvalue()

sound = {'top/a.wav':wav(1), 'top/sub/b.wav':wav(2)}

class Site:
    "What the server has, how it misbehaves (a list of faults a path, each request uses one up), what it was asked."
    def __init__(self): self.files,self.faults,self.tags,self.asked = {},{},{},[]

def handler(site):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'
        def log_message(self, *a): pass
        def end(self, code, body=b'', **headers):
            self.send_response(code)
            for k,v in headers.items(): self.send_header(k.replace('_', '-'), v)
            self.send_header('Content-Length', str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        def do_GET(self):
            at,b = self.headers.get('Range'),site.files.get(self.path)
            site.asked.append((self.path, at))
            faults = site.faults.get(self.path, [])
            fault = faults.pop(0) if faults else ''
            if isinstance(fault, int): return self.end(fault)
            if fault=='later': return self.end(429, Retry_After='0')
            if fault.startswith('to '): return self.end(302, Location=fault[3:])
            if b is None: return self.end(404)
            tag,start = site.tags.get(self.path),int(at[6:-1]) if at else 0
            if fault=='no range' or (tag and self.headers.get('If-Range', tag)!=tag): at,start = None,0
            if start>=len(b) and at: return self.end(416, Content_Range=f'bytes */{len(b)}')
            self.send_response(206 if at else 200)
            if at: self.send_header('Content-Range', f'bytes {start}-{len(b)-1}/{len(b)}')
            if tag: self.send_header('ETag', tag)
            if fault!='no length': self.send_header('Content-Length', str(len(b)-start))
            else: self.send_header('Connection', 'close')
            self.end_headers()
            rest = b[start:]
            self.wfile.write(rest[:len(rest)//2] if fault=='cut' else rest)
            if fault in ('cut', 'no length'): self.close_connection = True
    return Handler

@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv('no_proxy', '*')
    s = Site()
    server = ThreadingHTTPServer(('127.0.0.1', 0), handler(s))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    s.url = f'http://127.0.0.1:{server.server_port}'
    yield s
    server.shutdown()
    server.server_close()

@pytest.fixture
def get(tmp_path): return partial(get_audio_data, data=tmp_path/'data', progress=False, wait_s=.001, timeout_s=5)

def held(folder): return {f.relative_to(folder).as_posix():f.read_bytes() for f in folder.rglob('*') if f.is_file()}
inside = {'a.wav':sound['top/a.wav'], 'sub/b.wav':sound['top/sub/b.wav']}

def test_names():
    assert URLs.AUDIOMDPI == URLs.MARCO and URLs.SIGNALTRAIN_LA2A_REDUCED.endswith('.tgz')
    for u in (URLs.MARCO, URLs.SIGNALTRAIN_LA2A_1_1): assert download._record_of(u)

@pytest.mark.parametrize('name,body',
                         [('x.zip', zipped(sound)), ('x.tgz', tarred(sound)), ('x.tar.gz', tarred(sound)),
                          ('x.tar', tarred(sound, 'w:')),
    ('x.tar.bz2', tarred(sound, 'w:bz2')), ('x.tar.xz', tarred(sound, 'w:xz')), ('x.ZIP?download=1', zipped(sound)),
    ('get/x/download', zipped(sound))],
    ids=lambda o: o if isinstance(o, str) else '')
def test_kinds_of_archive(site, get, tmp_path, name, body):
    "The one folder on top is taken away; the second call asks nobody, even if the archive has gone."
    site.files[f'/{name}'] = body
    d = get(f'{site.url}/{name}')
    assert d == tmp_path/'data'/'x' and held(d) == inside and len(get_audio_files(d)) == 2
    site.files.clear()
    assert get(f'{site.url}/{name}') == d and len(site.asked) == 1

def test_several_on_top(site, get):
    site.files['/x.zip'] = zipped({'a.wav':wav(), 'b/c.wav':wav(), '__MACOSX/._a.wav':b'?', '._a.wav':b'?',
                                   '.DS_Store':b'?'})
    assert set(held(get(f'{site.url}/x.zip'))) == {'a.wav', 'b/c.wav'}

def test_a_sound_alone(site, get):
    site.files['/one.wav'] = wav()
    assert held(get(f'{site.url}/one.wav')) == {'one.wav':wav()}

def test_a_tar_that_ends_in_a_zip(site, get):
    site.files['/x.tar'] = tarred({'a.wav':wav(), 'z.zip':zipped(sound)}, 'w:')
    assert set(held(get(f'{site.url}/x.tar'))) == {'a.wav', 'z.zip'}

def test_resumes_where_the_line_broke(site, get):
    b = site.files['/x.tgz'] = tarred(sound)
    site.faults['/x.tgz'] = ['cut', 'cut']
    assert held(get(f'{site.url}/x.tgz', checksum=md5(b))) == inside
    n = len(b)//2
    assert site.asked == [('/x.tgz', None), ('/x.tgz', f'bytes={n}-'), ('/x.tgz', f'bytes={n+(len(b)-n)//2}-')]

def test_resumes_in_another_call(site, get):
    "What was fetched before the line was given up is not fetched again."
    b = site.files['/x.tgz'] = tarred(sound)
    site.faults['/x.tgz'] = ['cut']
    with pytest.raises(ValueError, match='ended after'): get(f'{site.url}/x.tgz', tries=1)
    assert held(get(f'{site.url}/x.tgz')) == inside
    assert site.asked[-1] == ('/x.tgz', f'bytes={len(b)//2}-')

def test_range_ignored(site, get):
    b = site.files['/x.tgz'] = tarred(sound)
    site.faults['/x.tgz'] = ['cut', 'no range']
    assert held(get(f'{site.url}/x.tgz', checksum=md5(b))) == inside and len(site.asked) == 2

@pytest.mark.parametrize('tag', [True, False], ids=['tagged', 'by size'])
def test_file_changed_between(site, get, tag):
    "The beginning of one version is never joined to the end of another."
    old,new = tarred({'old.wav':wav(3, 9000)}),tarred(sound)
    site.files['/x.tgz'] = old
    if tag: site.tags['/x.tgz'] = '"1"'
    site.faults['/x.tgz'] = ['cut']
    with pytest.raises(ValueError): get(f'{site.url}/x.tgz', tries=1)
    site.files['/x.tgz'] = new
    if tag: site.tags['/x.tgz'] = '"2"'
    assert held(get(f'{site.url}/x.tgz')) == inside

def test_whole_part_is_taken(site, get, monkeypatch):
    "Stopped after the last byte, before the file had its name."
    site.files['/x.tgz'] = tarred(sound)
    def stop(*_): raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(fetch, 'check_sum', stop)
        with pytest.raises(KeyboardInterrupt): get(f'{site.url}/x.tgz')
    assert held(get(f'{site.url}/x.tgz')) == inside

def test_a_spoilt_part_is_fetched_afresh(site, get, tmp_path):
    b = site.files['/x.tgz'] = tarred(sound)
    site.faults['/x.tgz'] = ['cut']
    with pytest.raises(ValueError): get(f'{site.url}/x.tgz', tries=1)
    part, = tmp_path.rglob('*.part')
    part.write_bytes(bytes(part.stat().st_size))
    assert held(get(f'{site.url}/x.tgz', checksum=md5(b))) == inside

@pytest.mark.parametrize('faults', [[500], [503, 500], ['later'], ['cut', 502], [408]], ids=str)
def test_failures_that_pass(site, get, faults):
    site.files['/x.tgz'] = tarred(sound)
    site.faults['/x.tgz'] = [*faults]
    assert held(get(f'{site.url}/x.tgz')) == inside and len(site.asked) == len(faults)+1

def test_failures_that_do_not_pass(site, get):
    "Bounded: as many requests as `tries`, waits doubled; 404 is asked once."
    site.faults['/x.tgz'] = [500]*99
    with pytest.raises(ValueError, match=r'500 .*\(4 times\)'): get(f'{site.url}/x.tgz', tries=4)
    assert len(site.asked) == 4
    with pytest.raises(ValueError, match='404 Not Found'): get(f'{site.url}/y.tgz')
    assert len(site.asked) == 5

def test_waits_double_and_are_bounded(monkeypatch):
    waits = []
    monkeypatch.setattr(fetch.time, 'sleep', waits.append)
    def once(): raise fetch.PassingFailure('no')
    with pytest.raises(fetch.FinalFailure): fetch.try_often(once, lambda: 0, 8, 1.)
    assert waits == [1, 2, 4, 8, 16, 30, 30]

def test_nobody_there(get):
    with pytest.raises(ValueError, match='127.0.0.1:9/x.tgz gave'): get('http://127.0.0.1:9/x.tgz', tries=2)

def test_redirects(site, get):
    site.files['/store/1'] = tarred(sound)
    site.faults['/x.tgz'] = [f'to {site.url}/store/1']
    assert held(get(f'{site.url}/x.tgz')) == inside
    site.faults['/loop.tgz'] = [f'to {site.url}/loop.tgz']*99
    with pytest.raises(ValueError, match='loop.tgz gave 302'): get(f'{site.url}/loop.tgz')
    site.faults['/file.tgz'] = ['to file:///etc/passwd']
    with pytest.raises(ValueError, match='file.tgz gave'): get(f'{site.url}/file.tgz')

def test_redirect_keeps_the_range(site, get):
    b = site.files['/store/1'] = tarred(sound)
    site.faults.update({'/x.tgz':[f'to {site.url}/store/1']*2, '/store/1':['cut']})
    assert held(get(f'{site.url}/x.tgz', checksum=md5(b))) == inside
    assert site.asked[-1] == ('/store/1', f'bytes={len(b)//2}-')

def test_mirrors(site, get):
    "The next one is asked; if none has it, each is named with what it gave."
    site.files['/m2/x.tgz'] = tarred(sound)
    assert held(get(f'{site.url}/x.tgz', mirrors=[f'{site.url}/m1/x.tgz', f'{site.url}/m2/x.tgz'])) == inside
    with pytest.raises(ValueError) as e: get(f'{site.url}/y.tgz', mirrors=[f'{site.url}/m3/y.tgz'])
    assert f'{site.url}/y.tgz gave 404' in str(e.value)
    assert f'{site.url}/m3/y.tgz gave 404' in str(e.value)
    assert '\n' not in str(e.value)

@pytest.mark.parametrize('kind', ['md5', 'sha1', 'sha256', 'sha512'])
def test_checksums(site, get, tmp_path, kind):
    b = site.files['/x.tgz'] = tarred(sound)
    right = hashlib.new(kind, b).hexdigest()
    with pytest.raises(ValueError, match='another checksum'):
        get(f'{site.url}/x.tgz', checksum=f'{kind}:'+'0'*len(right))
    assert not list(tmp_path.rglob('*.wav')) and not list(tmp_path.rglob('x.tgz'))
    for i,s in enumerate((right, f'{kind}:{right.upper()}')):
        assert held(get(f'{site.url}/x.tgz', checksum=s, force=bool(i))) == inside
    with pytest.raises(ValueError, match='expected a checksum'): get(f'{site.url}/z.tgz', checksum='abc')

def test_damaged_is_fetched_again(site, get, tmp_path):
    "Without a length or a checksum only the archive itself can tell."
    whole = tarred({'a.wav':wav(1, 50_000)})
    site.files['/x.tgz'] = whole[:len(whole)//2]
    site.faults['/x.tgz'] = ['no length']
    with pytest.raises(ValueError, match='damaged'): get(f'{site.url}/x.tgz')
    assert not list(tmp_path.rglob('*.wav'))
    site.files['/x.tgz'] = whole
    assert set(held(get(f'{site.url}/x.tgz'))) == {'a.wav'}

@pytest.mark.parametrize('name', ['x.zip', 'x.tgz', 'x', 'x.tar'])
def test_a_page_is_not_a_file(site, get, name):
    site.files[f'/{name}'] = b'<!DOCTYPE html><html>Please accept our cookies</html>'*100
    with pytest.raises(ValueError, match='DOCTYPE') as e: get(f'{site.url}/{name}')
    assert '\n' not in str(e.value)

def tar_link(name, kind, to='/etc/passwd'):
    i = tarfile.TarInfo(name)
    i.type,i.linkname = kind,to
    return i

def zip_link(name, to='/etc/passwd'):
    i = zipfile.ZipInfo(name)
    i.create_system,i.external_attr = 3,(stat.S_IFLNK|0o777)<<16
    return {i:to.encode()}

outside = ['../e.wav', 'a/../../e.wav', '/tmp/e.wav', '..\\e.wav', 'C:\\e.wav', 'c:e.wav', '\\e.wav']
@pytest.mark.parametrize('pack', [zipped, tarred])
@pytest.mark.parametrize('name', outside)
def test_no_way_out(site, get, tmp_path, pack, name):
    site.files['/x'] = pack({'ok.wav':wav(), name:wav()})
    with pytest.raises(ValueError, match='leads out of the archive') as e: get(f'{site.url}/x')
    assert '\n' not in str(e.value) and not list(tmp_path.rglob('*.wav')) and not Path('/tmp/e.wav').exists()

@pytest.mark.parametrize('body', [tarred({tar_link('l', tarfile.SYMTYPE):b''}),
                                  tarred({tar_link('l', tarfile.LNKTYPE):b''}),
    tarred({tar_link('l', tarfile.CHRTYPE):b''}), tarred({tar_link('l', tarfile.FIFOTYPE):b''}), zipped(zip_link('l'))],
    ids=['symlink', 'hard link', 'device', 'fifo', 'zip symlink'])
def test_no_links(site, get, tmp_path, body):
    site.files['/x'] = body
    with pytest.raises(ValueError, match='is a link or a device'): get(f'{site.url}/x')
    assert [o.name for o in (tmp_path/'data').iterdir()] == ['.fastproaudio']

@pytest.mark.parametrize('pack', [partial(zipped, compression=zipfile.ZIP_DEFLATED), tarred], ids=['zip', 'tgz'])
def test_bombs(site, get, tmp_path, pack):
    site.files['/x'] = pack({f'{i}.wav':bytes(2**20) for i in range(8)})
    with pytest.raises(ValueError, match='far more than its size'): get(f'{site.url}/x', max_bytes=2**22)
    n = len(site.asked)
    assert not list(tmp_path.rglob('*.wav'))
    assert len(held(get(f'{site.url}/x', max_bytes=2**23))) == 8 and len(site.asked) == n     # the archive was kept

def test_a_bomb_by_its_own_word(tmp_path):
    "A header that promises a terabyte is refused before a byte is written."
    i = tarfile.TarInfo('big.wav')
    i.size = 2**40
    (tmp_path/'x.tar').write_bytes(i.tobuf(tarfile.GNU_FORMAT)+bytes(10240))
    with pytest.raises(ValueError, match='more than 1.07 GB'): download._unpack(tmp_path/'x.tar', tmp_path/'out')

def test_encrypted(site, get):
    b = bytearray(zipped({'a.wav':wav()}))
    at = b.find(b'PK\x01\x02')
    b[at+8] |= 1
    site.files['/x.zip'] = bytes(b)
    with pytest.raises(ValueError, match='encrypted'): get(f'{site.url}/x.zip')

def test_no_room(site, get, tmp_path, monkeypatch):
    site.files['/x.tgz'] = tarred(sound)
    with monkeypatch.context() as m:
        m.setattr(download.shutil, 'disk_usage', lambda p: type('U', (), dict(free=100))())
        with pytest.raises(ValueError, match='free space'): get(f'{site.url}/x.tgz')
    assert not list(tmp_path.rglob('*.tgz'))
    class Full(io.FileIO):
        def write(self, b): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as m:
        m.setattr(fetch, 'open', lambda p, mode='r': Full(p, 'w') if mode in ('ab', 'wb') else open(p, mode),
                  raising=False)
        with pytest.raises(ValueError, match='No space left on device; what was fetched is kept'):
            get(f'{site.url}/x.tgz')
    assert held(get(f'{site.url}/x.tgz')) == inside

def test_two_sites_one_name(site, get):
    site.files.update({'/a/x.zip':zipped({'a.wav':wav(1)}), '/b/x.zip':zipped({'b.wav':wav(2)})})
    a,b = get(f'{site.url}/a/x.zip'),get(f'{site.url}/b/x.zip')
    assert a.name == 'x' and b.name.startswith('x-') and set(held(a)) == {'a.wav'} and set(held(b)) == {'b.wav'}
    assert (get(f'{site.url}/a/x.zip'), get(f'{site.url}/b/x.zip')) == (a, b)

def test_force_and_keep(site, get, tmp_path):
    site.files['/x.zip'] = zipped({'a.wav':wav(1)})
    a = get(f'{site.url}/x.zip', keep=False)
    assert not list(tmp_path.rglob('x.zip'))
    site.files['/x.zip'] = zipped({'b.wav':wav(2)})
    assert set(held(get(f'{site.url}/x.zip'))) == {'a.wav'}
    assert get(f'{site.url}/x.zip', force=True) == a and set(held(a)) == {'b.wav'}

def test_two_at_once(site, get):
    "One fetches, the other waits and finds it."
    site.files['/x.tgz'] = tarred({'a.wav':wav(1, 200_000)})
    found = []
    threads = [threading.Thread(target=lambda: found.append(get(f'{site.url}/x.tgz'))) for _ in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert len(found) == 4 and len(set(found)) == 1 and len(site.asked) == 1

def test_without_a_network(get, tmp_path):
    (tmp_path/'my x.zip').write_bytes(zipped(sound))
    d = get((tmp_path/'my x.zip').as_uri())
    assert held(d) == inside and get(str(tmp_path/'my x.zip')) == d == get(tmp_path/'my x.zip')
    assert get(tmp_path/'data') == tmp_path/'data' == get((tmp_path/'data').as_uri())
    with pytest.raises(ValueError, match='no such file'): get(tmp_path/'none.zip')
    with pytest.raises(ValueError, match='another checksum'): get(tmp_path/'my x.zip', checksum='0'*32, force=True)
    assert (tmp_path/'my x.zip').exists()
    (tmp_path/'bad.zip').write_bytes(zipped(sound)[:100])
    with pytest.raises(ValueError, match='damaged'): get(tmp_path/'bad.zip')
    assert (tmp_path/'bad.zip').exists()                              # what is the user's own is never removed

def test_no_sound_in_it(site, get):
    site.files['/x.zip'] = zipped({'readme.txt':b'hello'})
    with pytest.warns(UserWarning, match='no sound in it'): get(f'{site.url}/x.zip')

def test_fastai_homes(site, tmp_path, monkeypatch):
    "Without a folder given, fastai's own are used."
    monkeypatch.setattr(download, 'fastai_path', lambda k: tmp_path/'home'/k)
    site.files['/x.tgz'] = tarred(sound)
    assert get_audio_data(f'{site.url}/x.tgz', progress=False) == tmp_path/'home'/'data'/'x'
    assert [o.name for o in (tmp_path/'home'/'archive').rglob('*.tgz')] == ['x.tgz']

def test_a_bar(site, get, capsys):
    site.files['/x.tgz'] = tarred({'a.wav':wav(1, 2_000_000)})
    get(f'{site.url}/x.tgz', progress=True)
    assert 'MB of x.tgz' in capsys.readouterr().out

shapes = {'2022':lambda n, s, b: dict(bucket='f6', checksum=s, key=n, size=len(b),
                                      links=dict(self=f'https://zenodo.org/api/files/f6/{n}')),
          '2023':lambda n, s, b: dict(id='39', filename=n, filesize=len(b), checksum=s[4:],
                                      links=dict(self='https://zenodo.org/api/records/5/files/39')),
          'now':lambda n, s, b: dict(id='39', key=n, size=len(b), checksum=s,
                                     links=dict(self=f'https://zenodo.org/api/records/5/files/{n}/content'))}

@pytest.mark.parametrize('shape', shapes)
def test_a_record(site, get, shape, tmp_path):
    "All files, each with its own checksum; `record` and `records`; the second call asks nobody."
    files = {'Train set.zip':zipped(sound), 'one.wav':wav(), 'readme.txt':b'hello'}
    record = dict(id=5, files=[shapes[shape](n, f'md5:{md5(b)}', b) for n,b in files.items()])
    site.files['/api/records/5'] = json.dumps(record).encode()
    for n,b in files.items(): site.files[f"/api/records/5/files/{n.replace(' ', '%20')}/content"] = b
    urls = zenodo_url_to_data_url(f'{site.url}/record/5')
    assert list(urls) == [f"{site.url}/api/records/5/files/{n.replace(' ', '%20')}/content" for n in files]
    (tmp_path/'r.json').write_text(json.dumps(record))
    assert zenodo_url_to_data_url(f'{site.url}/records/5', tmp_path/'r.json') == urls
    d = get(f'{site.url}/records/5')
    assert set(held(d)) == {'Train set/a.wav', 'Train set/sub/b.wav', 'one.wav', 'readme.txt'}
    n = len(site.asked)
    assert get(f'{site.url}/records/5') == d and len(site.asked) == n
    assert held(get(f'{site.url}/records/5', only='*.zip')) == inside
    site.files['/api/records/5/files/one.wav/content'] = wav(9)
    with pytest.raises(ValueError, match='another checksum'): get(f'{site.url}/records/5', only='one.*')
    with pytest.raises(ValueError, match=r"files like '\*.ogg'"): get(f'{site.url}/records/5', only='*.ogg')

def test_records_interface_is_down(site, get, monkeypatch):
    "A named record has the plain address of its file as a mirror; another is an error with the address tried."
    url = f'{site.url}/record/8'
    site.files['/records/8/files/M.zip'] = zipped(sound)
    site.faults['/api/records/8'] = [500]*99
    with pytest.raises(ValueError, match=r'api/records/8: expected an answer, got 500'): get(url)
    monkeypatch.setitem(download._mirrors, url, [f'{site.url}/records/8/files/M.zip'])
    d = get(url)
    assert d.name == 'M' and held(d) == inside

def test_restricted_and_by_hand(site, get):
    site.files['/api/records/9'] = b'{"id":9,"files":[]}'
    with pytest.raises(ValueError, match='restricted'): get(f'{site.url}/records/9')
    with pytest.raises(ValueError, match='accept its terms'): get(URLs.COMMONVOICE)
    site.files['/api/records/10'] = b'<html>'
    with pytest.raises(ValueError): get(f'{site.url}/records/10')
