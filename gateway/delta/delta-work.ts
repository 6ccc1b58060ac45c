import type { Recompression } from '../../shared/delta/machine-class.ts';
import type { ContentFacts } from './describe.ts';
import type { KnownRecipe } from './kept-recipes.ts';
import type { Member, OpenedPart } from './open-packed.ts';

/** A stretch of a spool file, in bytes. */
export type Stretch = { readonly offset: number; readonly size: number };

/** What a worker thread is asked. */
export type WorkRequest =
  | OpenRequest
  /** Gives back memory that is kept for requests to come. */
  | { readonly kind: 'tidy' }
  | { readonly kind: 'describe'; readonly file: string; readonly stretches: readonly Stretch[] }
  /** The members of an archive. */
  | { readonly kind: 'members'; readonly file: string; readonly stretch: Stretch }
  | {
      readonly kind: 'match';
      readonly oldFile: string;
      /** Stretches that the new one may resemble, most promising first. */
      readonly candidates: readonly Stretch[];
      readonly newFile: string;
      readonly fresh: Stretch;
      /** Only the ends are compared: what is packed differs from the first change on. */
      readonly endsOnly: boolean;
      /** Most memory for buffers and index, in bytes. */
      readonly memoryBytes: number;
      /** Most places of the old file that are looked at for one run. */
      readonly chain: number;
    };

/** What is asked about a file that may be compressed. */
export type OpenRequest = {
  readonly kind: 'open';
  readonly file: string;
  readonly stretch: Stretch;
  /** Folder for the contents. */
  readonly folder: string;
  /** Most bytes of contents. */
  readonly maxBytes: number;
  /** Where streams begin that stay as they are. */
  readonly closed: readonly number[];
  /**
   * Whether zstd streams are unpacked with their parses: where recipes are wanted, those that no
   * encoder gives again.
   */
  readonly withParses: boolean;
  /**
   * Wants recipes: of encoders that take at most so much memory, in bytes, and that all machines of
   * a class have.
   */
  readonly prove?: {
    readonly maxMemoryBytes: number;
    readonly machines: Recompression;
    readonly known: readonly KnownRecipe[];
    /** What an encoder may take when the file is opened once more, later, in bytes; or 0. */
    readonly laterBytes: number;
  };
};

/** Matches of a new file with one of its candidates. */
export type FoundMatches = {
  /** Which of the candidates. */
  readonly candidate: number;
  /** Three numbers for each match: old offset, new offset, length, relative to the stretches. */
  readonly matches: Float64Array<ArrayBuffer>;
  /** Estimated bytes of the delta, before it is packed. */
  readonly cost: number;
};

/** What was found in a file that may be compressed. */
export type OpenedFile = {
  /** Undefined when it holds no stream that can be opened, and where asked for, packed again. */
  readonly parts: readonly OpenedPart[] | undefined;
  /** Most memory that an encoder would take which the request does not allow, in bytes; or 0. */
  readonly dearest: number;
};

/** What comes back for each kind of request. */
export type WorkResult = {
  readonly tidy: undefined;
  readonly describe: readonly ContentFacts[];
  readonly members: readonly Member[];
  readonly match: FoundMatches | undefined;
  readonly open: OpenedFile;
};
