import { loadKoffi } from './koffi.ts';

const POSIX_FADV_WILLNEED = 3;

type Advise = (fd: number, offset: number, length: number, advice: number) => number;
let advise: Advise | undefined;

/** Has the system read the first `length` bytes of an open file into its memory, without waiting. */
export function readAhead(fd: number, length: number): void {
  advise ??= loadKoffi()
    .load(null)
    .func('int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)');
  advise(fd, 0, length, POSIX_FADV_WILLNEED);
}
