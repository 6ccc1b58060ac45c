/**
 * Boot entries as text files with try counters: the UAPI Group's Boot Loader Specification, type 1,
 * and systemd's Automatic Boot Assessment.
 */

/** Entries of this project begin so; others are never touched. */
export const ENTRY_PREFIX = 'snapgate-';

/** What an entry says. Paths are absolute, from the root of the boot partition. */
export type BootEntry = {
  /** Id of the deployment, `[a-z0-9-]+`. */
  readonly id: string;
  readonly title: string;
  /** Entries are offered highest first, so this is the order in which deployments were chosen. */
  readonly rank: number;
  readonly linux?: string | undefined;
  readonly initrd: readonly string[];
  /** A unified kernel image, instead of `linux` and `initrd`. */
  readonly efi?: string | undefined;
  /** Kernel command line. */
  readonly options: string;
};

/** Tries of an entry that is not proved yet; undefined for one that is good. */
export type BootTries = { readonly left: number; readonly done: number } | undefined;

/** The name of an entry's file: `snapgate-ID.conf`, `snapgate-ID+3.conf`, `snapgate-ID+2-1.conf`. */
export function entryFileName(id: string, tries: BootTries): string {
  const done = tries === undefined || tries.done === 0 ? '' : `-${tries.done}`;
  return `${ENTRY_PREFIX}${id}${tries === undefined ? '' : `+${tries.left}${done}`}.conf`;
}

/** Reads the name of an entry's file; undefined for one that is not ours. */
export function parseEntryFileName(name: string): { id: string; tries: BootTries } | undefined {
  const match = /^snapgate-([a-z0-9-]+?)(?:\+(\d{1,9})(?:-(\d{1,9}))?)?\.conf$/.exec(name);
  if (match?.[1] === undefined) return undefined;
  if (match[2] === undefined) return { id: match[1], tries: undefined };
  return { id: match[1], tries: { left: Number(match[2]), done: Number(match[3] ?? 0) } };
}

/** Digits of a rank in an entry, so that versions of equal length compare as numbers do. */
const RANK_DIGITS = 10;

/** Text of an entry's file. */
export function formatEntry(entry: BootEntry): string {
  const lines = [
    ['title', entry.title],
    ['sort-key', 'snapgate'],
    ['version', String(entry.rank).padStart(RANK_DIGITS, '0')],
    ...(entry.efi === undefined ? [] : [['efi', entry.efi]]),
    ...(entry.linux === undefined ? [] : [['linux', entry.linux]]),
    ...entry.initrd.map((path) => ['initrd', path]),
    ['options', entry.options],
  ];
  return lines.map(([key, value]) => `${key} ${oneLine(value ?? '')}\n`).join('');
}

/** A title comes from an image: it must not bring lines of its own. */
function oneLine(text: string): string {
  return text.replace(/[^\x20-\x7e]+/g, ' ').trim();
}

/** A rank that nobody could have written counts as none: the next must be above it. */
function parseRank(text: string): number {
  return /^\d{1,10}$/.test(text) ? Number(text) : 0;
}

/** Reads the text of an entry's file. Keys that are not known are passed over. */
export function parseEntry(id: string, text: string): BootEntry {
  const values = (key: string) =>
    text.split('\n').flatMap((line) => {
      const match = /^([a-z-]+)\s+(.*?)\s*$/.exec(line);
      return match?.[1] === key ? [match[2] ?? ''] : [];
    });
  return {
    id,
    title: values('title')[0] ?? id,
    rank: parseRank(values('version')[0] ?? ''),
    linux: values('linux')[0],
    efi: values('efi')[0],
    initrd: values('initrd'),
    options: values('options').join(' '),
  };
}
