import { SnapgateError } from '../../shared/errors.ts';
import { isPrincipalName } from './principal.ts';

/** Largest file read, in characters, and most users in it. */
const MAX_FILE = 2 ** 20;
const MAX_USERS = 10_000;
/** Base-2 logarithm of the rounds; each one more doubles what a try costs. */
const MAX_COST = 12;
const HASH = /^\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}$/;

/** Names and bcrypt hashes. */
export type Users = ReadonlyMap<string, string>;

/**
 * Parses a password file as Apache's `htpasswd -B` writes it: `NAME:HASH` a line. Only bcrypt is
 * read, of at most {@link MAX_COST}, so that no file makes a login cost more than some tenths of a
 * second. Throws CONFIG_INVALID with the line; no hash stands in the message.
 */
export function parseHtpasswd(text: string, path: string): Users {
  const refuse = (line: number, message: string) =>
    new SnapgateError('CONFIG_INVALID', `line ${line}: ${message}`, {
      where: path,
      hint: 'Write the file with "htpasswd -B".',
    });
  if (text.length > MAX_FILE) throw refuse(1, `the file is over ${MAX_FILE} characters`);
  const users = new Map<string, string>();
  for (const [i, line] of text.split(/\r?\n/).entries()) {
    if (line === '' || line.startsWith('#')) continue;
    const colon = line.indexOf(':');
    const name = line.slice(0, Math.max(0, colon));
    const hash = line.slice(colon + 1);
    if (!isPrincipalName(name)) throw refuse(i + 1, 'it has no user name');
    const cost = HASH.exec(hash)?.[1];
    if (cost === undefined) throw refuse(i + 1, `the hash of ${name} is not bcrypt`);
    if (Number(cost) < 4 || Number(cost) > MAX_COST) {
      throw refuse(i + 1, `the cost of ${name} is ${Number(cost)}; 4 to ${MAX_COST} are read`);
    }
    if (users.has(name)) throw refuse(i + 1, `${name} stands here twice`);
    if (users.size >= MAX_USERS) throw refuse(i + 1, `there are over ${MAX_USERS} users`);
    users.set(name, hash);
  }
  return users;
}
