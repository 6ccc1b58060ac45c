/** Operation codes (FORMAT.md section 6). */
export const OPERATION = {
  ADD: 0,
  ADD_SEEK: 1,
  COPY: 2,
  COPY_SEEK: 3,
  LITERAL: 4,
  FILE: 5,
  ENTRY_FILE: 6,
  PART: 7,
  SWITCH: 8,
  MAP: 9,
  MODE: 10,
  FILTER: 11,
} as const;
