/** What became of an account file, and what a person should look at. */
export type AccountMerge = { readonly text: string; readonly notes: readonly string[] };

/** Files under /etc that hold one account or range a line, keyed by the name before the first colon. */
const ACCOUNT_FILES = new Set([
  'passwd',
  'passwd-',
  'group',
  'group-',
  'shadow',
  'shadow-',
  'gshadow',
  'gshadow-',
  'subuid',
  'subuid-',
  'subgid',
  'subgid-',
]);
/** Files whose last field is a list of names that merge one by one (group(5), gshadow(5)). */
const MEMBER_FILES = new Set(['group', 'group-', 'gshadow', 'gshadow-']);
/** Files whose third field is a number that no two names should share (passwd(5), group(5)). */
const NUMBERED_FILES = new Set(['passwd', 'group']);

/** Whether a path under /etc is merged by line. */
export function isAccountFile(path: string): boolean {
  return ACCOUNT_FILES.has(path);
}

/**
 * Merges an account file three ways by line. The new image's order comes first, the machine's own
 * lines follow. Where both sides changed the same line, the machine's stays and is noted; group
 * members that either side added or removed are added or removed.
 */
export function mergeAccounts(
  path: string,
  base: string,
  machine: string,
  image: string,
): AccountMerge {
  const old = byName(base);
  const own = byName(machine);
  const fresh = byName(image);
  const notes: string[] = [];
  const lines: string[] = [];
  for (const name of new Set([...fresh.keys(), ...own.keys()])) {
    const [b, m, f] = [old.get(name), own.get(name), fresh.get(name)];
    const merged = mergeLine(path, b, m, f);
    if (merged === 'conflict') {
      notes.push(`${path}: ${name} was changed here and in the image; this machine's line is kept`);
      if (m !== undefined) lines.push(m);
    } else if (merged !== undefined) {
      lines.push(merged);
    }
  }
  if (NUMBERED_FILES.has(path)) notes.push(...sharedNumbers(path, lines));
  return { text: lines.map((line) => `${line}\n`).join(''), notes };
}

function byName(text: string): Map<string, string> {
  const lines = new Map<string, string>();
  for (const line of text.split('\n')) {
    if (line.trim() === '') continue;
    const name = line.split(':', 1)[0] ?? '';
    // subuid(5) may give a name several ranges: each is a line of its own.
    let key = name;
    for (let n = 2; lines.has(key) && lines.get(key) !== line; n += 1) key = `${name}:${n}`;
    lines.set(key, line);
  }
  return lines;
}

function mergeLine(
  path: string,
  base: string | undefined,
  machine: string | undefined,
  image: string | undefined,
): string | undefined | 'conflict' {
  if (machine === base) return image;
  if (image === base || image === machine) return machine;
  if (!MEMBER_FILES.has(path) || machine === undefined || image === undefined) return 'conflict';
  return mergeMembers(base, machine, image) ?? 'conflict';
}

function mergeMembers(
  base: string | undefined,
  machine: string,
  image: string,
): string | undefined {
  const split = (line: string) => {
    const at = line.lastIndexOf(':');
    return {
      head: line.slice(0, at),
      members: line
        .slice(at + 1)
        .split(',')
        .filter(Boolean),
    };
  };
  const [m, f] = [split(machine), split(image)];
  const b = base === undefined ? { head: undefined, members: [] } : split(base);
  let head = m.head;
  if (m.head === b.head) head = f.head;
  else if (f.head !== b.head && f.head !== m.head) return undefined;
  const removed = b.members.filter((x) => !m.members.includes(x) || !f.members.includes(x));
  const all = new Set([...f.members, ...m.members]);
  return `${head}:${[...all].filter((name) => !removed.includes(name)).join(',')}`;
}

function sharedNumbers(path: string, lines: readonly string[]): string[] {
  const owners = new Map<string, string>();
  const notes: string[] = [];
  for (const line of lines) {
    const [name = '', , number = ''] = line.split(':');
    if (!/^\d+$/.test(number)) continue;
    const first = owners.get(number);
    if (first === undefined) owners.set(number, name);
    else notes.push(`${path}: ${first} and ${name} share the number ${number}`);
  }
  return notes;
}
