// Command devfile-go answers what github.com/devfile/library makes of devfiles, one JSON line per line of input.
//
// Input lines:  {"path": "/dir/devfile.yaml", "flatten": true, "inline": true, "variables": {"a": "b"}}
// Output lines: {"path": "...", "ok": true, "error": "", "panic": false, "warnings": {...}, "flattened": {...}}
//
// With -bench N the paths are read from the input and parsed and validated N times without flattening; the answer is
// one line {"files": 118, "milliseconds": 201.5}.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/devfile/api/v2/pkg/validation/variables"
	"github.com/devfile/library/v2/pkg/devfile"
	"github.com/devfile/library/v2/pkg/devfile/parser"
	"k8s.io/klog"
)

type request struct {
	Path      string            `json:"path"`
	Flatten   bool              `json:"flatten"`
	Inline    bool              `json:"inline"`
	Variables map[string]string `json:"variables"`
}

type answer struct {
	Path      string                     `json:"path"`
	OK        bool                       `json:"ok"`
	Error     string                     `json:"error,omitempty"`
	Panic     bool                       `json:"panic,omitempty"`
	Warnings  *variables.VariableWarning `json:"warnings,omitempty"`
	Flattened interface{}                `json:"flattened,omitempty"`
}

func ask(r request) (a answer) {
	a.Path = r.Path
	defer func() {
		if p := recover(); p != nil {
			a.OK, a.Panic, a.Error, a.Flattened = false, true, fmt.Sprint(p), nil
		}
	}()
	no := false
	parsed, warnings, err := devfile.ParseDevfileAndValidate(parser.ParserArgs{
		Path:                          r.Path,
		FlattenedDevfile:              &r.Flatten,
		ConvertKubernetesContentInUri: &r.Inline,
		ExternalVariables:             r.Variables,
		DownloadGitResources:          &no,
	})
	if err != nil {
		a.Error = err.Error()
		return a
	}
	a.OK, a.Warnings, a.Flattened = true, &warnings, parsed.Data
	return a
}

func bench(lines []request, times int) {
	start := time.Now()
	for i := 0; i < times; i++ {
		for _, r := range lines {
			r.Flatten, r.Inline = false, false
			ask(r)
		}
	}
	fmt.Printf("{\"files\":%d,\"times\":%d,\"milliseconds\":%.3f}\n", len(lines), times, float64(time.Since(start).Microseconds())/1000)
}

func main() {
	times := flag.Int("bench", 0, "measure this many rounds instead of answering")
	flag.Parse()
	klog.SetOutput(io.Discard)
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 16<<20)
	out := json.NewEncoder(os.Stdout)
	var lines []request
	for in.Scan() {
		var r request
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			fmt.Fprintln(os.Stderr, "input:", err)
			os.Exit(2)
		}
		if *times > 0 {
			lines = append(lines, r)
			continue
		}
		if err := out.Encode(ask(r)); err != nil {
			fmt.Fprintln(os.Stderr, "output:", err)
			os.Exit(2)
		}
	}
	if *times > 0 {
		bench(lines, *times)
	}
}
