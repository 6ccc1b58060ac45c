import { SnapgateError } from '../errors.ts';

/**
 * How to pack content again so that the original compressed bytes come out: the encoder by name and,
 * where versions write different bytes, version; its settings; and the bytes of the container that
 * do not follow from them (a gzip header with its name and time).
 */
export type Recipe = {
  /** `gnu-gzip`, `zlib`, `xz`, `zstd-1.5.7`, `lz4hc`: what is compared in negotiation. */
  readonly encoder: string;
  /** Whole numbers from 0; each encoder knows its own names and refuses others. */
  readonly settings: Readonly<Record<string, number>>;
  readonly frame: Uint8Array;
};

/** Longest recipe as text. */
const MAX_TEXT = 70_000;
const ENCODER = /^[a-z][a-z0-9.-]{0,31}$/;
const SETTING = /^([a-z][a-zA-Z0-9]{0,31})=(0|[1-9][0-9]{0,14})$/;
const FRAME = /^frame=((?:[0-9a-f]{2})+)$/;

function invalid(message: string): SnapgateError {
  return new SnapgateError('DELTA_INVALID', `a recipe ${message}`);
}

/**
 * A recipe as text: the encoder, its settings and the frame in hexadecimal, parted by spaces, as in
 * `gnu-gzip level=9 frame=1f8b0800000000000203`.
 */
export function formatRecipe(recipe: Recipe): string {
  const settings = Object.entries(recipe.settings).map(([name, value]) => `${name}=${value}`);
  const frame =
    recipe.frame.length === 0 ? [] : [`frame=${Buffer.from(recipe.frame).toString('hex')}`];
  return [recipe.encoder, ...settings, ...frame].join(' ');
}

/** Reads what {@link formatRecipe} wrote. Throws DELTA_INVALID. */
export function parseRecipe(text: string): Recipe {
  if (text.length > MAX_TEXT) throw invalid('is too long');
  const [encoder = '', ...words] = text.split(' ');
  if (!ENCODER.test(encoder)) throw invalid('names no encoder');
  const settings: Record<string, number> = {};
  let frame = new Uint8Array(0);
  for (const [index, word] of words.entries()) {
    const hex = FRAME.exec(word)?.[1];
    if (hex !== undefined && index === words.length - 1) {
      frame = new Uint8Array(Buffer.from(hex, 'hex'));
      continue;
    }
    const [, name, value] = SETTING.exec(word) ?? [];
    if (name === undefined || Object.hasOwn(settings, name)) throw invalid('is malformed');
    settings[name] = Number(value);
  }
  return { encoder, settings, frame };
}

/**
 * The settings of a recipe, checked: each name of `ranges` must stand there with a value from the
 * first to the second number, and no other name. Throws DELTA_INVALID.
 */
export function readSettings<Name extends string>(
  recipe: Recipe,
  ranges: Readonly<Record<Name, readonly [number, number]>>,
): Record<Name, number> {
  const names = Object.keys(ranges) as Name[];
  if (Object.keys(recipe.settings).some((name) => !Object.hasOwn(ranges, name))) {
    throw invalid(`has a setting that ${recipe.encoder} does not know`);
  }
  const entries = names.map((name) => {
    const value = recipe.settings[name];
    const [least, most] = ranges[name];
    if (value === undefined || value < least || value > most) {
      throw invalid(`has no possible ${name} for ${recipe.encoder}`);
    }
    return [name, value] as const;
  });
  return Object.fromEntries(entries) as Record<Name, number>;
}
