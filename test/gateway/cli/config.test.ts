import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../../gateway/cli/config.ts';

const PATH = '/etc/snapgate/snapgate.yaml';
const MINIMAL = 'upstream: {url: "http://127.0.0.1:5000"}\ndata: /var/lib/snapgate\n';
const refusal = (text: string) => {
  try {
    parseConfig(text, PATH);
  } catch (thrown) {
    return thrown as { code: string; message: string };
  }
  throw new Error('it was taken');
};

describe('the configuration', () => {
  it('in deploy holds the defaults', () => {
    const sample = parseConfig(readFileSync('deploy/snapgate.yaml', 'utf8'), PATH);
    expect(sample).toEqual(parseConfig(MINIMAL, PATH));
  });

  it('in deploy takes every field that it names', () => {
    const text = readFileSync('deploy/snapgate.yaml', 'utf8')
      .replace('signing: []', 'signing:')
      .replace(/^#( {2}.*)$/gm, '$1')
      .replace(/^# ((publicUrl|gate|access|tuf):.*)$/gm, '$1')
      .replace(/^( +)# ((tls|certificate|key|ca|username|passwordFile):.*)$/gm, '$1$2')
      .replace(/^( +)# {3}((certificate|key|username|passwordFile):.*)$/gm, '$1  $2')
      .replace(/^( +)# (credentials:\n)(?= +username)/m, '$1$2');
    const config = parseConfig(text, PATH);
    expect(config.listen.tls?.key).toBe('/etc/snapgate/tls.key');
    expect(config.gate).toMatchObject({ mode: 'enforce', pushes: false });
    expect(config.listen.tls?.clientCertificates).toBe('required');
    expect(config.access?.htpasswd).toBe('/etc/snapgate/htpasswd');
    expect(config.access?.oidc).toMatchObject([{ name: 'ci', audience: 'registry.example' }]);
    expect(config.access?.rules.map(({ pull }) => pull)).toEqual([['anyone'], ['certificate:*']]);
    expect(config.tuf).toMatchObject({ folder: '/var/lib/snapgate/tuf', timestampHours: 24 });
    expect(config.publicUrl?.host).toBe('registry.example');
    expect(config.upstream.ca).toBe('/etc/snapgate/registry-ca.pem');
    expect(config.upstream.credentials).toMatchObject({ username: 'snapgate' });
    expect(config.signing).toMatchObject([{ repository: 'os/*', images: true, deltas: true }]);
  });

  it('of the compose file is good', () => {
    const config = parseConfig(readFileSync('deploy/compose.snapgate.yaml', 'utf8'), PATH);
    expect(config.listen).toEqual({ address: '0.0.0.0', port: 8080 });
  });

  it('finds files beside itself', () => {
    const signing = { repository: 'os/*', key: 'a.key', passwordFile: '/b', requirePublisher: 'c' };
    const upstream = { url: 'https://registry.example', credentials: { authFile: 'auth.json' } };
    const config = parseConfig(JSON.stringify({ upstream, data: 'd', signing: [signing] }), PATH);
    expect(config.data).toBe('/etc/snapgate/d');
    expect(config.upstream.credentials).toEqual({ authFile: '/etc/snapgate/auth.json' });
    expect(config.signing[0]).toMatchObject({
      ...{ key: '/etc/snapgate/a.key', passwordFile: '/b' },
      requirePublisher: '/etc/snapgate/c',
    });
  });

  it.each([
    ['nothing', '', 'upstream: is missing'],
    ['no YAML', 'a: [1', 'not YAML in line 1'],
    ['a key twice', `${MINIMAL}data: /x\n`, 'not YAML in line 3'],
    ['an alias', 'data: &a x\nupstream: *a\n', 'not YAML'],
    ['an unknown field', `${MINIMAL}upstraem: 1\n`, 'upstraem: no such field'],
    ['an unknown field for a known one', 'data: x\nupstraem: 1\n', 'upstraem: no such field'],
    ['an unknown field inside', `${MINIMAL}deltas: {queu: 1}\n`, 'deltas.queu: no such field'],
    ['a bad port', `${MINIMAL}listen: {port: 70000}\n`, 'listen.port: '],
    ['a path in the URL', 'data: x\nupstream: {url: "http://a/b"}\n', 'upstream.url: must be http'],
    [
      'a password in the URL',
      'data: x\nupstream: {url: "http://u:secret@a"}\n',
      'upstream.url: must be http',
    ],
    ['another scheme', 'data: x\nupstream: {url: "ftp://a"}\n', 'upstream.url: must be http'],
    ['a bad pattern', `${MINIMAL}deltas: {repositories: ["a*b"]}\n`, 'deltas.repositories.0: must'],
    ['too little memory', `${MINIMAL}deltas: {memoryBytes: 1}\n`, 'deltas.memoryBytes: '],
    [
      'no key',
      `${MINIMAL}signing: [{repository: "*"}]\n`,
      'signing.0: must have key and passwordFile, or pkcs11, or transit',
    ],
    [
      'half of the credentials',
      'data: x\nupstream: {url: "http://a", credentials: {username: u}}\n',
      'upstream.credentials: must have either authFile',
    ],
  ])('with %s is refused, naming the field', (_what, text, message) => {
    const error = refusal(text);
    expect(error).toMatchObject({ code: 'CONFIG_INVALID', where: PATH });
    expect(error.message).toContain(message);
    expect(JSON.stringify(error)).not.toContain('secret');
  });
});
