import type { Target } from './target.ts';
import { CHANNEL_TARGETS } from './targets/channels.ts';
import { DELTA_TARGETS } from './targets/deltas.ts';
import { DOCUMENT_TARGETS } from './targets/documents.ts';
import { STREAM_TARGETS } from './targets/streams.ts';

/** Every parser of input from outside. */
export const TARGETS: readonly Target[] = [
  ...STREAM_TARGETS,
  ...DELTA_TARGETS,
  ...DOCUMENT_TARGETS,
  ...CHANNEL_TARGETS,
];
