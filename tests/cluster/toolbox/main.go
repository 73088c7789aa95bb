// Command toolbox holds the test cluster's small helpers. It needs nothing but Go's
// standard library, so that the Git server and the images are there in seconds
// while the cluster's own programs compile.
package main

import (
	"fmt"
	"os"
)

// helper is one subcommand: how it is called, and what it does with its arguments.
type helper struct {
	usage     string
	arguments int // at least
	run       func([]string) error
}

var helpers = map[string]helper{
	"pki":          {"DIR", 1, func(a []string) error { return writePKI(a[0]) }},
	"serving-pair": {"DIR DNS-NAME...", 2, func(a []string) error { return writeServingPair(a[0], a[1:]) }},
	"image":        {"[-on BASE.tar] [-env NAME=VALUE]... NAME FOLDER OUT.tar [ENTRYPOINT...] [-- CMD...]", 3, runImage},
	"registry":     {"ADDRESS FOLDER...", 2, func(a []string) error { return serveRegistry(a[0], a[1:]) }},
	"git-server":   {"ADDRESS FOLDER", 2, func(a []string) error { return serveGit(a[0], a[1]) }},
}

func main() {
	if len(os.Args) > 1 {
		if helper, ok := helpers[os.Args[1]]; ok && len(os.Args) >= helper.arguments+2 {
			if err := helper.run(os.Args[2:]); err != nil {
				fmt.Fprintf(os.Stderr, "toolbox %s: %v\n", os.Args[1], err)
				os.Exit(1)
			}
			return
		}
	}
	for _, name := range []string{"pki", "serving-pair", "image", "registry", "git-server"} {
		fmt.Fprintf(os.Stderr, "usage: toolbox %s %s\n", name, helpers[name].usage)
	}
	os.Exit(2)
}
