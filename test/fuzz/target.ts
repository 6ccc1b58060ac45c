import { SnapgateError } from '../../shared/errors.ts';

/** One parser of input from outside. */
export type Target = {
  readonly name: string;
  /** Good inputs to start from, besides those that are kept. */
  readonly samples: () => Promise<readonly Uint8Array[]>;
  /** Pieces that its inputs are made of. */
  readonly words?: readonly (string | Uint8Array)[];
  /**
   * Reads an input. Whatever it holds, this ends in a value or in an error that is meant for it; a
   * value of few words tells one end from others.
   */
  readonly read: (input: Buffer) => unknown;
};

/** How reading an input ended, in few enough words that alike ends are equal. */
export type Outcome = { readonly end: string; readonly failure?: unknown };

/** Reads an input and says how that ended; `failure` is an error that is not meant for it. */
export async function outcomeOf(target: Target, input: Buffer): Promise<Outcome> {
  try {
    const value = await target.read(input);
    const said = ['string', 'number', 'boolean'].includes(typeof value) ? String(value) : '';
    return { end: `read ${shorten(said)}` };
  } catch (thrown) {
    const { message } = thrown as Error;
    const isMeant = thrown instanceof SnapgateError && thrown.code !== 'INTERNAL';
    const end = `${isMeant ? thrown.code : 'failed'} ${shorten(message)}`;
    return isMeant ? { end } : { end, failure: thrown };
  }
}

/** What a text quotes of the input makes no end of its own. */
function shorten(text: string): string {
  return text.slice(0, 60).replace(/"[^"]*"?|'[^']*'?|[^a-z .:'-]+/gi, '#');
}
