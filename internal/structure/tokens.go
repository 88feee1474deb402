package main

import (
	"go/scanner"
	"go/token"
	"iter"
)

// tokens yields the first and last position of each token in the text. It omits comments and the
// semicolons that end lines.
func tokens(f *token.File, text []byte) iter.Seq2[token.Pos, token.Pos] {
	return func(yield func(first, last token.Pos) bool) {
		var s scanner.Scanner
		s.Init(f, text, nil, 0)
		for {
			pos, tok, lit := s.Scan()
			if tok == token.EOF {
				return
			}
			if tok == token.SEMICOLON && lit == "\n" {
				continue
			}
			if !yield(pos, pos+token.Pos(max(len(lit), 1)-1)) {
				return
			}
		}
	}
}
