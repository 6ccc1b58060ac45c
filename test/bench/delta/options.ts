import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { PEER_NAMES } from './peers.ts';

const CACHE = fileURLToPath(new URL('../../../.cache/bench', import.meta.url));
const PROGRAM = 'node test/bench/delta.ts';

const OPTIONS = {
  quick: { type: 'boolean', help: 'the small pairs, for common machines, beside tar-diff alone' },
  peers: { type: 'boolean', help: 'leave out our own' },
  ours: { type: 'boolean', help: 'measure our own alone; of others print what is kept' },
  peer: { type: 'string', value: 'TOOL', help: 'of the other tools this one alone' },
  again: { type: 'boolean', help: 'measure other tools again, not only what is not kept' },
  anew: { type: 'boolean', help: 'make the pairs again, of the newest packages' },
  back: { type: 'string', value: 'N', help: 'make pairs of releases so many before the newest' },
  cache: {
    type: 'string',
    value: 'DIR',
    help: 'folder that keeps pairs and results (default: .cache/bench)',
  },
  help: { type: 'boolean', help: 'print this help' },
} as const;

/** What the bench is to do. */
export type BenchOptions = {
  readonly isQuick: boolean;
  readonly withOurs: boolean;
  /** Which of the other tools; all when absent. */
  readonly peer: string | undefined;
  /** What is measured of other tools: what is not kept, everything, or nothing. */
  readonly measurePeers: 'new' | 'all' | 'none';
  readonly isAnew: boolean;
  /** How many releases before the newest the pairs are made of. */
  readonly back: number;
  readonly cache: string;
  /** Names of pairs; the usual ones when empty. */
  readonly pairs: readonly string[];
};

/** Options of the command line, or a text to print and the exit status to end with. */
export type Parsed =
  | { readonly options: BenchOptions }
  | { readonly text: string; readonly status: 0 | 2 };

/** `known` are the names of all pairs, each with what it is. */
export function parseOptions(args: string[], known: ReadonlyMap<string, string>): Parsed {
  let parsed: ReturnType<typeof parse>;
  try {
    parsed = parse(args);
  } catch (thrown) {
    return wrong((thrown as Error).message);
  }
  const { values, positionals: pairs } = parsed;
  if (values.help === true) return { text: help(known), status: 0 };
  const unknown = pairs.filter((name) => !known.has(name));
  if (unknown.length > 0) {
    return wrong(`no such pair: ${unknown.join(', ')}; there are: ${[...known.keys()].join(', ')}`);
  }
  const { back = '0', cache = CACHE, peer } = values;
  if (peer !== undefined && !PEER_NAMES.includes(peer)) {
    return wrong(`no such tool: ${peer}; there are: ${PEER_NAMES.join('; ')}`);
  }
  if (!/^\d{1,2}$/.test(back)) return wrong('--back must be a whole number from 0 to 99');
  if (values.peers && values.ours) return wrong('--peers and --ours leave nothing to measure');
  if (back !== '0' && cache === CACHE) return wrong('--back needs a --cache of its own');
  return {
    options: {
      isQuick: values.quick === true,
      withOurs: values.peers !== true,
      peer,
      measurePeers: values.ours === true ? 'none' : values.again === true ? 'all' : 'new',
      isAnew: values.anew === true,
      back: Number(back),
      cache: resolve(cache),
      pairs,
    },
  };
}

function parse(args: string[]) {
  return parseArgs({ args, options: OPTIONS, allowPositionals: true, strict: true });
}

function wrong(message: string): Parsed {
  return { text: `${message}\nRun ${PROGRAM} --help.\n`, status: 2 };
}

function help(known: ReadonlyMap<string, string>): string {
  const rows = Object.entries(OPTIONS).map(([name, option]) => [
    `--${name}${'value' in option ? ` ${option.value}` : ''}`,
    option.help,
  ]);
  const width = Math.max(...[...known.keys()].map((name) => name.length));
  const lines = (pairs: Iterable<readonly string[]>) =>
    [...pairs].map(([name = '', what]) => `  ${name.padEnd(width)}  ${what}`);
  return [
    `Usage: ${PROGRAM} [OPTIONS] [PAIR...]`,
    '',
    ...lines(rows),
    '',
    'Pairs:',
    ...lines(known),
    '',
  ].join('\n');
}
