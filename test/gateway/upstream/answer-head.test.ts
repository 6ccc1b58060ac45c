import { describe, expect, it } from 'vitest';
import { parseAnswerHead } from '../../../gateway/upstream/answer-head.ts';

const head = (...lines: string[]) => parseAnswerHead(['HTTP/1.1 200 OK', ...lines].join('\r\n'));

describe('the head of an answer', () => {
  it('is taken when it is plain', () => {
    const found = head('Content-Length: 5', 'ETag:  "x" ', 'Link: a', 'link: b', 'Empty:');
    expect(found).toMatchObject({ status: 200, length: 5 });
    expect({ ...found?.headers }).toEqual({
      ...{ 'content-length': '5', etag: '"x"', link: ['a', 'b'], empty: '' },
    });
  });

  it.each([
    ['no length', ['ETag: x']],
    ['two lengths', ['Content-Length: 5', 'Content-Length: 6']],
    ['the same length twice', ['Content-Length: 5', 'Content-Length: 5']],
    ['a list of lengths', ['Content-Length: 5, 5']],
    ['a signed length', ['Content-Length: +5']],
    ['a hexadecimal length', ['Content-Length: 0x5']],
    ['a length beyond numbers', ['Content-Length: 99999999999999999']],
    ['another framing', ['Content-Length: 5', 'Transfer-Encoding: chunked']],
    ['a folded line', ['Content-Length: 5', ' more']],
    ['a space before the colon', ['Content-Length : 5']],
    ['a bare line feed', ['Content-Length: 5\nX: y']],
    ['a control character', ['Content-Length: 5', 'X: \u0000']],
    ['no colon', ['Content-Length: 5', 'nothing']],
  ])('with %s is left to others', (_what, lines) => {
    expect(head(...lines)).toBeUndefined();
  });

  it.each(['HTTP/1.0 200 OK', 'HTTP/1.1 100 Continue', 'HTTP/1.1 999 X', 'HTTP/2 200', 'SSH-2.0'])(
    'that begins with %s is left to others',
    (first) => {
      expect(parseAnswerHead(`${first}\r\nContent-Length: 5`)).toBeUndefined();
    },
  );
});
