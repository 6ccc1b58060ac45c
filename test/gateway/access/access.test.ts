import { hashSync } from 'bcryptjs';
import { afterAll, describe, expect, it } from 'vitest';
import { Access } from '../../../gateway/access/access.ts';
import { AccessRules } from '../../../gateway/access/access-rules.ts';
import { BcryptThread } from '../../../gateway/access/bcrypt.ts';
import { parseHtpasswd } from '../../../gateway/access/htpasswd.ts';
import { OwnTokens } from '../../../gateway/access/own-tokens.ts';
import { Passwords } from '../../../gateway/access/passwords.ts';
import type { Client } from '../../../gateway/access/principal.ts';
import { basicHeader } from '../../../shared/registry/authenticator.ts';

const code = (wanted: string) => expect.objectContaining({ code: wanted });
const as = (...names: string[]): Client => ({
  principals: names.map((text) => {
    const [kind = '', name = ''] = text.split(/:(.*)/s);
    return { kind, name };
  }),
});
const nobody = { pull: [], push: [], delete: [], delta: [] };
const rules = new AccessRules({
  rules: [
    { ...nobody, repository: '*', pull: ['anyone'] },
    { ...nobody, repository: 'os/*', pull: ['certificate:*'], push: ['user:alice', 'ci:a/b:ref'] },
    { ...nobody, repository: 'os/closed' },
  ],
  catalog: [],
  metrics: ['user:*'],
  tuf: [],
});

describe('access rules', () => {
  const allows = (client: Client, action: 'pull' | 'push' | 'delete', repository: string) =>
    rules.allows(client, { action, repository });

  it('take the longest pattern alone, and refuse what none names', () => {
    expect(allows(as(), 'pull', 'tools')).toBe(true);
    expect(allows(as(), 'pull', 'os/edge')).toBe(false);
    expect(allows(as('certificate:m1'), 'pull', 'os/edge')).toBe(true);
    expect(allows(as('user:alice'), 'push', 'os/edge')).toBe(true);
    expect(allows(as('user:alice'), 'delete', 'os/edge')).toBe(false);
    expect(allows(as('user:alice', 'certificate:m1'), 'pull', 'os/closed')).toBe(false);
  });

  it('let those pull who may push', () => {
    expect(allows(as('ci:a/b:ref'), 'pull', 'os/edge')).toBe(true);
  });

  it('let those report who may pull, unless they say otherwise', () => {
    const may = (rule: object) =>
      new AccessRules({
        rules: [{ ...nobody, repository: '*', pull: ['user:*'], ...rule }],
        ...{ catalog: [], metrics: [], tuf: [] },
      }).allows(as('user:bob'), { action: 'report', repository: 'os' });
    expect([may({}), may({ report: ['user:alice'] })]).toEqual([true, false]);
  });

  it('compare names letter by letter, and kinds with them', () => {
    for (const other of [
      'user:Alice',
      'user:alice ',
      'ci:alice',
      'user:*',
      'ci:a/b',
      'certificat:m',
    ]) {
      expect(allows(as(other), 'push', 'os/edge')).toBe(false);
    }
  });

  it('ask strangers for credentials and refuse those who are known', () => {
    const wish = { action: 'push', repository: 'os/edge' } as const;
    expect(() => rules.check(as(), wish)).toThrow(code('UNAUTHORIZED'));
    expect(() => rules.check(as('user:bob'), wish)).toThrow(code('DENIED'));
    expect(() => rules.check(as('user:bob'), { action: 'catalog' })).toThrow(code('DENIED'));
    rules.check(as('user:bob'), { action: 'metrics' });
  });
});

describe('a password file', () => {
  const hash = hashSync('pw', 4);
  it('is read as htpasswd writes it', () => {
    const users = parseHtpasswd(`# people\nalice:${hash}\r\nbob:${hash}\n`, 'f');
    expect([...users.keys()]).toEqual(['alice', 'bob']);
  });

  it.each([
    ['another hash', 'alice:$apr1$abcdefgh$0123456789012345678901'],
    ['a plain password', 'alice:open sesame'],
    ['a cost that stops the gateway', `alice:${hash.replace('$04$', '$31$')}`],
    ['a name twice', `alice:${hash}\nalice:${hash}`],
    ['no name', `:${hash}`],
    ['a name that means all', `*:${hash}`],
  ])('with %s is refused', (_what, text) => {
    let thrown: unknown;
    try {
      parseHtpasswd(text, 'f');
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toMatchObject({ code: 'CONFIG_INVALID' });
    expect(String(thrown)).not.toMatch(/sesame|apr1|\$2/);
  });
});

describe('passwords', () => {
  const users = new Map([['alice', 'hash of right']]);
  function open() {
    const state = { now: 0, asked: [] as string[] };
    const compare = async (password: string, hash: string) => {
      state.asked.push(password);
      return hash === `hash of ${password}`;
    };
    return { state, passwords: new Passwords({ users, compare, now: () => state.now }) };
  }

  it('are compared once for many requests', async () => {
    const { state, passwords } = open();
    const all = Array.from({ length: 50 }, () => passwords.isRight('alice', 'right', 'a'));
    expect(new Set(await Promise.all(all))).toEqual(new Set([true]));
    expect(await passwords.isRight('alice', 'wrong', 'a')).toBe(false);
    expect(await passwords.isRight('alice', 'wrong', 'a')).toBe(false);
    expect(state.asked).toEqual(['right', 'wrong']);
  });

  it('are compared again after a while and after the file changed', async () => {
    const { state, passwords } = open();
    await passwords.isRight('alice', 'right', 'a');
    state.now += 6 * 60 * 1000;
    await passwords.isRight('alice', 'right', 'a');
    passwords.replace(new Map([['alice', 'hash of new']]));
    expect(await passwords.isRight('alice', 'right', 'a')).toBe(false);
    expect(await passwords.isRight('alice', 'new', 'a')).toBe(true);
    expect(state.asked).toHaveLength(4);
  });

  it('that change while they are compared do not count', async () => {
    const { passwords } = open();
    const asked = passwords.isRight('alice', 'right', 'a');
    passwords.replace(new Map([['alice', 'hash of new']]));
    expect(await asked).toBe(false);
  });

  it('cost the same for names that do not exist', async () => {
    const { state, passwords } = open();
    expect(await passwords.isRight('mallory', 'right', 'a')).toBe(false);
    expect(state.asked).toEqual(['right']);
  });

  it('can be tried a bounded number of times from one address', async () => {
    const { state, passwords } = open();
    for (let i = 0; i < 20; i += 1) await passwords.isRight('alice', `guess ${i}`, 'a');
    await expect(passwords.isRight('alice', 'one more', 'a')).rejects.toThrow(
      code('TOOMANYREQUESTS'),
    );
    expect(await passwords.isRight('alice', 'right', 'b')).toBe(true);
    // What is known costs nothing, so those who are in stay in.
    expect(await passwords.isRight('alice', 'right', 'a')).toBe(true);
    expect(state.asked).toHaveLength(21);
  });

  it('longer than bcrypt looks at are wrong', async () => {
    const { state, passwords } = open();
    expect(await passwords.isRight('alice', `${'ä'.repeat(36)}x`, 'a')).toBe(false);
    expect(state.asked).toEqual([]);
  });
});

describe('the login thread', () => {
  const thread = new BcryptThread();
  afterAll(() => thread.close());

  it('compares with bcrypt, and only so many at once', async () => {
    const hash = hashSync('pw', 4);
    const all = Array.from({ length: 40 }, (_, i) =>
      thread.compare(i === 0 ? 'pw' : 'other', hash).catch((thrown) => thrown.code),
    );
    const results = await Promise.all(all);
    expect(results[0]).toBe(true);
    expect(results.filter((one) => one === false)).toHaveLength(31);
    expect(results.filter((one) => one === 'TOOMANYREQUESTS')).toHaveLength(8);
    expect(await thread.compare('pw', hash.replace('$2b$', '$2y$'))).toBe(true);
  });
});

describe("the gateway's own tokens", () => {
  it('say who somebody is until they end, and nothing when changed', () => {
    let now = 1000;
    const tokens = new OwnTokens(60, () => now);
    const { token, expiresIn } = tokens.issue(as('user:alice'));
    expect([expiresIn, tokens.open(token)]).toEqual([60, as('user:alice')]);
    expect(new OwnTokens(60, () => now).open(token)).toBeUndefined();
    for (let i = 0; i < token.length; i += 1) {
      const other = token[i] === 'A' ? 'B' : 'A';
      expect(
        tokens.open(`${token.slice(0, i)}${other}${token.slice(i + 1)}`)?.principals,
      ).not.toEqual(as('user:bob').principals);
    }
    now += 60_000;
    expect(tokens.open(token)).toBeUndefined();
    expect(tokens.issue(as(), now + 5000).expiresIn).toBe(5);
  });
});

describe('whoever shows', () => {
  const compare = async (password: string, hash: string) => hash === `hash of ${password}`;
  const passwords = new Passwords({ users: new Map([['alice', 'hash of pw']]), compare });
  const access = new Access({ rules, tokens: new OwnTokens(60), passwords });
  const shown = (authorization: string | undefined, certificate?: string) =>
    access.identify({ authorization, certificate, address: 'a' });

  it('nothing, or nothing but a colon, is anonymous', async () => {
    expect(await shown(undefined)).toEqual(as());
    expect(await shown(basicHeader('', ''))).toEqual(as());
  });

  it('a password or a certificate or both is known by all of them', async () => {
    const login = basicHeader('alice', 'pw');
    expect(await shown(login)).toEqual(as('user:alice'));
    expect(await shown(undefined, 'm1')).toEqual(as('certificate:m1'));
    expect(await shown(login, 'm1')).toEqual(as('user:alice', 'certificate:m1'));
    expect(await shown(undefined, '*')).toEqual(as());
  });

  it('a token of the gateway is known by it', async () => {
    const { token } = await access.issue({
      ...{ authorization: basicHeader('alice', 'pw'), address: 'a' },
    });
    expect(await shown(`Bearer ${token}`)).toEqual(as('user:alice'));
  });

  it.each([
    'Basic',
    'Basic !',
    `Basic ${Buffer.from('no colon').toString('base64')}`,
    basicHeader('alice', 'wrong'),
    basicHeader('mallory', 'pw'),
    'Bearer x',
    'Bearer snapgate.e30.AAAA',
    'Negotiate abc',
    'Bearer a b',
  ])('%s is asked to log in', async (authorization) => {
    await expect(shown(authorization)).rejects.toThrow(code('UNAUTHORIZED'));
  });

  it('nothing gets no token where nothing is open to anyone', async () => {
    const closed = new AccessRules({
      ...{
        rules: [{ ...nobody, repository: '*', pull: ['user:*'] }],
        catalog: [],
        metrics: [],
        tuf: [],
      },
    });
    const guard = new Access({ rules: closed, tokens: new OwnTokens(60), passwords });
    await expect(guard.issue({ authorization: undefined, address: 'a' })).rejects.toThrow(
      code('UNAUTHORIZED'),
    );
  });
});
