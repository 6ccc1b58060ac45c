/** How much a line of the log matters, least first. */
export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/**
 * Values of a log line. Never credentials, never whole URLs with their query, and none under a name
 * that the line has itself.
 */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>> & {
  readonly [Name in 'time' | 'level' | 'message']?: never;
};

/** Writes one line. `message` is static, lower case and without data; what varies goes to `fields`. */
export type Log = (level: LogLevel, message: string, fields?: LogFields) => void;

/** A log of one JSON object a line, with time, level and message first; less than `least` is dropped. */
export function jsonLog(
  write: (line: string) => void,
  least: LogLevel = 'info',
  now: () => Date = () => new Date(),
): Log {
  const threshold = LOG_LEVELS.indexOf(least);
  return (level, message, fields = {}) => {
    if (LOG_LEVELS.indexOf(level) < threshold) return;
    write(`${JSON.stringify({ time: now().toISOString(), level, message, ...fields })}\n`);
  };
}
