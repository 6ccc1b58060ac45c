/** The steps of an update, in their order, and of other long commands. */
export const STEPS = [
  'recover',
  'resolve',
  'plan',
  'wait',
  'room',
  'download',
  'build',
  'register',
  'deploy',
  'verify',
  'collect',
] as const;
export type Step = (typeof STEPS)[number];

/** Told what an update does: for progress on a terminal, a log, or a program that listens. */
export type UpdateEvents = {
  /** A step begins. `detail` says what is special about it this time. */
  step(step: Step, detail?: string): void;
  /** How far the step is, in bytes; or in other units where `unit` says so. */
  progress(done: number, total: number, unit?: 'bytes' | 'parts'): void;
  /** Something that does not stop the update but should be known. */
  notice(message: string): void;
};

/** Nobody listens. */
export const NO_EVENTS: UpdateEvents = { step() {}, progress() {}, notice() {} };
