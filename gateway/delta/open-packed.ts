import { MAX_SOURCES } from '../../shared/delta/layer-delta/source-table.ts';
import { analyse } from '../../shared/recompress/analyse.ts';
import { type Encoders, recipeCost } from '../../shared/recompress/encoders.ts';
import { unpackPart } from '../../shared/recompress/formats.ts';
import {
  type ByteSource,
  contentOf,
  DEFAULT_UNPACK_LIMITS,
  type PackedFormat,
  type PackedPart,
  type UnpackLimits,
} from '../../shared/recompress/part.ts';
import { findRecipe } from '../../shared/recompress/prove.ts';
import { formatRecipe, parseRecipe } from '../../shared/recompress/recipe.ts';
import type { KnownRecipe } from './kept-recipes.ts';
import { sha256Of } from './proved-encodings.ts';
import type { ScratchFile } from './scratch-file.ts';
import { stretchSource } from './spool-file.ts';

/** A stretch of a temporary file, in bytes. */
export type SpooledStretch = {
  readonly file: string;
  readonly offset: number;
  readonly size: number;
};

/** A file inside the content of a packed part, as of an archive. */
export type Member = {
  readonly name: string;
  readonly offset: number;
  readonly size: number;
  readonly sha256: string;
};

/** A run of a file: as it is, or a compressed stream that was opened. Bytes. */
export type OpenedPart =
  | { readonly kind: 'raw'; readonly offset: number; readonly size: number }
  | OpenedStream;
export type OpenedStream = {
  readonly kind: 'packed';
  readonly offset: number;
  readonly size: number;
  readonly format: PackedFormat;
  /** The path inside the archive that the file is, where it is one. */
  readonly name?: string;
  readonly content: SpooledStretch;
  /** Proved to give the very bytes of the stream; absent where that was not asked for. */
  readonly recipe?: ProvedRecipe;
  readonly members: readonly Member[];
};

/** Of a content by its sha256, in hexadecimal; bytes of memory and seconds that the encoder takes. */
export type ProvedRecipe = {
  readonly text: string;
  readonly memoryBytes: number;
  readonly seconds: number;
  readonly sha256: string;
};

/**
 * Where recipes are wanted: by what encoders, and what memory each may take, in bytes. `onDearer` takes
 * what those would take that are passed over for it.
 */
export type Proving = {
  readonly encoders: Encoders;
  readonly maxMemoryBytes: number;
  readonly onDearer?: (memoryBytes: number) => void;
  /**
   * Whether a zstd stream that no encoder gives again is unpacked with its parse, of which it can be
   * made again on any machine.
   */
  readonly parses?: () => boolean;
  /** Recipes that were proved before, for this very file. */
  readonly known?: readonly KnownRecipe[];
};

/** Content of a stream that is larger than this many times the stream is left packed. */
const MAX_RATIO = 200;
/** Most streams of a file that are opened, and most members that are copied: each is a source. */
export const MAX_STREAMS = MAX_SOURCES / 4;
/** Members smaller than this, in bytes, are not worth naming a source of their own. */
const MIN_MEMBER = 512;

/** Where contents go, whether they must be packed again, and how many bytes they may have together. */
export type OpenOptions = {
  readonly scratch: ScratchFile;
  readonly proving: Proving | undefined;
  /** Without `proving`: whether zstd streams are unpacked with their parses. */
  readonly withParses?: boolean;
  readonly maxBytes: number;
  /** Where streams begin that stay as they are. */
  readonly closed?: readonly number[];
  /** Called whenever so many bytes more were unpacked, or read for an encoder. */
  readonly onUsed?: ((bytes: number) => void) | undefined;
};

/**
 * Takes a file apart and appends the contents of its compressed streams to `scratch`. With `proving`
 * only streams count that can be packed again. Streams beyond `maxBytes` stay as they are. Undefined
 * when none is opened.
 */
export async function openPacked(
  source: ByteSource,
  options: OpenOptions,
): Promise<OpenedPart[] | undefined> {
  const parts: OpenedPart[] = [];
  const closed = new Set(options.closed);
  let left = options.maxBytes;
  let streams = 0;
  for (const part of await analyse(source, limitsFor(left))) {
    const isOpened = part.kind === 'packed' && streams < MAX_STREAMS && !closed.has(part.offset);
    const opened = isOpened
      ? await openStream(source, part, { ...options, maxBytes: left })
      : undefined;
    left -= opened?.content.size ?? 0;
    streams += opened === undefined ? 0 : 1;
    const last = parts.at(-1);
    if (opened !== undefined) parts.push(opened);
    else if (last?.kind === 'raw') {
      parts[parts.length - 1] = { ...last, size: last.size + part.size };
    } else parts.push({ kind: 'raw', offset: part.offset, size: part.size });
  }
  return streams > 0 ? parts : undefined;
}

function limitsFor(bytes: number): UnpackLimits {
  const maxUnpackedBytes = Math.min(DEFAULT_UNPACK_LIMITS.maxUnpackedBytes, Math.max(1, bytes));
  return { ...DEFAULT_UNPACK_LIMITS, maxRatio: MAX_RATIO, maxUnpackedBytes };
}

async function openStream(
  source: ByteSource,
  part: PackedPart,
  options: OpenOptions,
): Promise<OpenedStream | undefined> {
  const parsed = { ...part, format: 'zstd-parse' as const };
  if (part.format !== 'zstd') return openAs(source, part, options);
  if (options.proving === undefined) {
    const opened = options.withParses ? await openAs(source, parsed, options) : undefined;
    return opened ?? openAs(source, part, options);
  }
  const opened = await openAs(source, part, options);
  if (opened !== undefined || options.proving.parses?.() !== true) return opened;
  return openAs(source, parsed, options);
}

async function openAs(
  source: ByteSource,
  part: PackedPart,
  { scratch, proving, maxBytes, onUsed }: OpenOptions,
): Promise<OpenedStream | undefined> {
  if (maxBytes <= 0) return undefined;
  const start = scratch.position;
  try {
    const unpacked = unpackPart(source, part, limitsFor(maxBytes));
    for await (const bytes of unpacked) {
      scratch.append(bytes);
      onUsed?.(bytes.length);
    }
    const size = scratch.position - start;
    const content = stretchSource(scratch.read, { offset: start, size });
    const recipe =
      size > 0 && proving ? await prove(source, part, content, { ...proving, onUsed }) : undefined;
    if (size === 0 || (proving !== undefined && recipe === undefined)) {
      scratch.truncate(start);
      return undefined;
    }
    return {
      ...{ kind: 'packed', offset: part.offset, size: part.size, format: part.format },
      ...(part.name === undefined ? {} : { name: part.name }),
      content: { file: scratch.path, offset: start, size },
      ...(recipe === undefined ? {} : { recipe }),
      members: proving === undefined ? [] : await membersOf(content),
    };
  } catch {
    // What cannot be opened stays as it is: the image's content is no error of ours.
    scratch.truncate(start);
    return undefined;
  }
}

async function prove(
  source: ByteSource,
  part: PackedPart,
  content: ByteSource,
  { encoders, known = [], onUsed, ...budget }: Proving & Pick<OpenOptions, 'onUsed'>,
): Promise<ProvedRecipe | undefined> {
  const sha256 = sha256Of(content);
  const { offset, size } = part;
  for (const { offset: at, size: of, ...proved } of known) {
    if (at !== offset || of !== size || proved.sha256 !== sha256) continue;
    const encoder = encoders.get(parseRecipe(proved.text).encoder);
    if (encoder !== undefined && proved.memoryBytes <= budget.maxMemoryBytes) return proved;
  }
  const recipe = await findRecipe(encoders, source, part, contentOf(content, onUsed), budget);
  if (recipe === undefined) return undefined;
  const { memoryBytes, secondsPerMegabyte } = recipeCost(encoders, recipe, content.size);
  const seconds = (secondsPerMegabyte * content.size) / 1e6;
  return { text: formatRecipe(recipe), memoryBytes, seconds, sha256 };
}

/** The files of an archive; none for what is no archive. */
export async function membersOf(content: ByteSource): Promise<Member[]> {
  const members: Member[] = [];
  let name: string | undefined;
  let from = 0;
  let to = 0;
  const add = () => {
    if (name !== undefined && to - from >= MIN_MEMBER) {
      members.push({ name, offset: from, size: to - from, sha256: sha256Of(content, from, to) });
    }
  };
  // Packed members are of no interest here, so that none is unpacked.
  for (const part of await analyse(content, limitsFor(1))) {
    if (part.name === undefined || part.name !== name) {
      add();
      name = part.name;
      from = part.offset;
    }
    to = part.offset + part.size;
  }
  add();
  return members;
}
