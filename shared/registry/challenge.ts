/** One challenge of a WWW-Authenticate header (RFC 9110, section 11.6.1). */
export type Challenge = {
  /** Scheme in lower case: `basic`, `bearer`. */
  readonly scheme: string;
  /** Parameter names in lower case. */
  readonly parameters: Readonly<Record<string, string>>;
};

const TOKEN = /[A-Za-z0-9!#$%&'*+.^_`|~-]+/y;
const QUOTED = /"((?:[^"\\]|\\.)*)"/y;

function match(pattern: RegExp, text: string, at: number): RegExpExecArray | null {
  pattern.lastIndex = at;
  return pattern.exec(text);
}

/** Parses a WWW-Authenticate header; what cannot be read ends the list. */
export function parseChallenges(header: string): Challenge[] {
  const challenges: { scheme: string; parameters: Record<string, string> }[] = [];
  let at = 0;
  const skip = (characters: string) => {
    while (at < header.length && characters.includes(header[at] ?? '')) at += 1;
  };
  while (at < header.length) {
    skip(' \t,');
    const word = match(TOKEN, header, at);
    if (word === null) break;
    at += word[0].length;
    skip(' \t');
    const current = challenges.at(-1);
    if (header[at] === '=' && current !== undefined) {
      at += 1;
      skip(' \t');
      const quoted = match(QUOTED, header, at);
      const value = quoted ?? match(TOKEN, header, at);
      if (value === null) break;
      at += value[0].length;
      const text = quoted === null ? value[0] : (quoted[1] ?? '').replace(/\\(.)/g, '$1');
      current.parameters[word[0].toLowerCase()] = text;
    } else {
      challenges.push({ scheme: word[0].toLowerCase(), parameters: {} });
    }
  }
  return challenges;
}
