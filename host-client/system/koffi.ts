import { createRequire } from 'node:module';

/** Loads koffi, which calls C functions, when it is needed for the first time: it is a native module. */
export function loadKoffi(): typeof import('koffi') {
  return createRequire(import.meta.url)('koffi') as typeof import('koffi');
}
