package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
)

const (
	mediaTypeLayer    = "application/vnd.oci.image.layer.v1.tar"
	mediaTypeConfig   = "application/vnd.oci.image.config.v1+json"
	mediaTypeManifest = "application/vnd.oci.image.manifest.v1+json"
	// Where the image's full name stands in an archive; the registry reads it.
	nameAnnotation = "io.containerd.image.name"
)

type object = map[string]any

// imageOptions are what an image may have beside its name and files.
type imageOptions struct {
	base       string // archive of an image to put the folder on, or ""
	env        []string
	entrypoint []string
	cmd        []string
}

// runImage reads the command line of the helper "image": what follows the archive
// is the entrypoint, and after "--" what it is given unless a Pod says otherwise.
func runImage(arguments []string) error {
	var options imageOptions
	for len(arguments) >= 2 && (arguments[0] == "-on" || arguments[0] == "-env") {
		if arguments[0] == "-on" {
			options.base = arguments[1]
		} else {
			options.env = append(options.env, arguments[1])
		}
		arguments = arguments[2:]
	}
	if len(arguments) < 3 {
		return errors.New("a name, a folder and an archive are needed")
	}
	options.entrypoint = arguments[3:]
	if end := slices.Index(options.entrypoint, "--"); end >= 0 {
		options.entrypoint, options.cmd = options.entrypoint[:end], options.entrypoint[end+1:]
	}
	return writeImage(arguments[0], arguments[1], arguments[2], options)
}

// writeImage packs the folder root as the top layer of an OCI image named name,
// into the archive out. All files become root's and lose their times, so the
// same folder gives the same digest.
//
// The layers of options.base are only named: their content stays in that archive,
// which the registry must serve too.
func writeImage(name, root, out string, options imageOptions) error {
	below, err := layersOf(options.base)
	if err != nil {
		return err
	}
	top, err := os.CreateTemp(filepath.Dir(out), ".layer-*")
	if err != nil {
		return err
	}
	defer os.Remove(top.Name())
	defer top.Close()
	sum := sha256.New()
	if err := tarFolder(root, io.MultiWriter(top, sum)); err != nil {
		return err
	}
	// The archive appears at once or not at all: the registry looks for new ones at any time.
	part, err := os.CreateTemp(filepath.Dir(out), ".image-*")
	if err != nil {
		return err
	}
	defer os.Remove(part.Name())
	defer part.Close()
	if err := writeArchive(part, name, below, top, sum, options); err != nil {
		return err
	}
	if err := part.Close(); err != nil {
		return err
	}
	if err := os.Chmod(part.Name(), 0o644); err != nil {
		return err
	}
	return os.Rename(part.Name(), out)
}

// layer is one of an image's layers; they are not compressed, so the digest is that of the content too.
type layer struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

// layersOf reads which layers the image in an archive has.
func layersOf(path string) ([]layer, error) {
	if path == "" {
		return nil, nil
	}
	base, err := readArchive(path)
	if err != nil {
		return nil, err
	}
	defer base.file.Close()
	for _, digest := range base.manifest {
		place := base.blobs[digest]
		var manifest struct{ Layers []layer }
		err := json.NewDecoder(io.NewSectionReader(base.file, place.offset, place.size)).Decode(&manifest)
		return manifest.Layers, err
	}
	return nil, fmt.Errorf("%s holds no image", path)
}

func writeArchive(out io.Writer, name string, layers []layer, top *os.File, topSum hash.Hash, options imageOptions) error {
	size, err := top.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if _, err := top.Seek(0, io.SeekStart); err != nil {
		return err
	}
	topHex := fmt.Sprintf("%x", topSum.Sum(nil))
	layers = append(slices.Clip(layers), layer{mediaTypeLayer, "sha256:" + topHex, size})
	var contents []string
	for _, layer := range layers {
		contents = append(contents, layer.Digest)
	}
	w := tar.NewWriter(out)
	add := func(path string, size int64, content io.Reader) error {
		if err := w.WriteHeader(&tar.Header{Name: path, Mode: 0o644, Size: size}); err != nil {
			return err
		}
		_, err := io.Copy(w, content)
		return err
	}
	addJSON := func(mediaType string, value object) (object, error) {
		data, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		digest := fmt.Sprintf("%x", sha256.Sum256(data))
		reference := object{"mediaType": mediaType, "digest": "sha256:" + digest, "size": len(data)}
		return reference, add("blobs/sha256/"+digest, int64(len(data)), bytes.NewReader(data))
	}

	if err := add("blobs/sha256/"+topHex, size, top); err != nil {
		return err
	}
	config, err := addJSON(mediaTypeConfig, object{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": object{
			"Entrypoint": options.entrypoint, "Cmd": options.cmd,
			"Env": append([]string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}, options.env...),
		},
		"rootfs": object{"type": "layers", "diff_ids": contents},
	})
	if err != nil {
		return err
	}
	manifest, err := addJSON(mediaTypeManifest, object{
		"schemaVersion": 2, "mediaType": mediaTypeManifest, "config": config,
		"layers": layers,
	})
	if err != nil {
		return err
	}
	manifest["annotations"] = map[string]string{nameAnnotation: name}
	index, err := json.Marshal(object{"schemaVersion": 2, "manifests": []object{manifest}})
	if err != nil {
		return err
	}
	layout := []byte(`{"imageLayoutVersion":"1.0.0"}`)
	if err := add("oci-layout", int64(len(layout)), bytes.NewReader(layout)); err != nil {
		return err
	}
	if err := add("index.json", int64(len(index)), bytes.NewReader(index)); err != nil {
		return err
	}
	return w.Close()
}

func tarFolder(root string, out io.Writer) error {
	w := tar.NewWriter(out)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		link := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			if link, err = os.Readlink(path); err != nil {
				return err
			}
		}
		header, err := tar.FileInfoHeader(info, link)
		if err != nil {
			return err
		}
		plain := tar.Header{Typeflag: header.Typeflag, Name: name, Linkname: link, Mode: header.Mode, Size: header.Size}
		if err := w.WriteHeader(&plain); err != nil || !info.Mode().IsRegular() {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = io.Copy(w, file)
		return err
	})
	if err != nil {
		return err
	}
	return w.Close()
}
