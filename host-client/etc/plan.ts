import { isAccountFile } from './accounts.ts';
import { type EtcEntry, type EtcTree, sameEntry } from './entry.ts';

/** Name under which the image's version stands beside a file that both sides changed. */
export const NEW_SUFFIX = '.snaphost-new';

/** What is done to the new deployment's /etc, which begins as the new image has it. */
export type EtcAction =
  /** The machine's entry takes the place of the image's. */
  | { readonly kind: 'keep'; readonly path: string }
  /** The machine removed it. */
  | { readonly kind: 'remove'; readonly path: string }
  /** Both changed it: the machine's is kept, the image's goes to `path` with {@link NEW_SUFFIX}. */
  | { readonly kind: 'conflict'; readonly path: string }
  /** Both changed an account file: it is merged by line. */
  | { readonly kind: 'merge-lines'; readonly path: string };

/** What makes a machine itself: it is kept without a question, whatever the image ships. */
function isIdentity(path: string): boolean {
  return (
    path === 'machine-id' ||
    path === 'fstab' ||
    path === 'hostid' ||
    path === 'adjtime' ||
    /^ssh\/ssh_host_[^/]*$/.test(path)
  );
}

/**
 * Decides a three-way merge of /etc by path: unchanged by the machine takes the image's, changed by
 * the machine alone keeps the machine's, changed by both is a conflict. Actions come in the order in
 * which they can be done: what is removed deepest first, then what is kept parents first.
 */
export function planEtc(base: EtcTree, machine: EtcTree, image: EtcTree): EtcAction[] {
  const removed: EtcAction[] = [];
  const kept: EtcAction[] = [];
  const paths = [...new Set([...base.keys(), ...machine.keys(), ...image.keys()])].sort();
  for (const path of paths) {
    const [m, f] = [machine.get(path), image.get(path)];
    const action = decide(path, base.get(path), m, f);
    if (action === undefined) continue;
    if (action.kind === 'remove') removed.unshift(action);
    else kept.push(action);
  }
  const withFolders = addFolders(kept, image);
  const needed = new Set(withFolders.map(({ path }) => path));
  return [...removed.filter(({ path }) => !needed.has(path)), ...withFolders];
}

/** What is kept needs the folders that it stands in, also where the image has none or something else. */
function addFolders(kept: readonly EtcAction[], image: EtcTree): EtcAction[] {
  const actions = new Map(kept.map((action) => [action.path, action]));
  for (const { path } of kept) {
    for (let at = path.indexOf('/'); at > 0; at = path.indexOf('/', at + 1)) {
      const folder = path.slice(0, at);
      const there = image.get(folder);
      if (actions.has(folder) || there?.type === 'directory') continue;
      const kind = there === undefined ? 'keep' : 'conflict';
      actions.set(folder, { kind, path: folder });
    }
  }
  return [...actions.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
}

function decide(
  path: string,
  base: EtcEntry | undefined,
  machine: EtcEntry | undefined,
  image: EtcEntry | undefined,
): EtcAction | undefined {
  if (sameEntry(machine, image)) return undefined;
  if (machine !== undefined && isIdentity(path)) return { kind: 'keep', path };
  if (sameEntry(machine, base)) return undefined;
  if (machine === undefined) {
    // The machine removed what the image changed meanwhile: the image's is wanted again.
    return sameEntry(image, base) ? { kind: 'remove', path } : undefined;
  }
  if (sameEntry(image, base) || image === undefined) return { kind: 'keep', path };
  const files = machine.type === 'file' && image.type === 'file';
  if (files && isAccountFile(path)) return { kind: 'merge-lines', path };
  if (machine.type === 'directory' && image.type === 'directory') return { kind: 'keep', path };
  return { kind: 'conflict', path };
}
