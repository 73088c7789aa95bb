package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

const (
	mediaTypeLayer    = "application/vnd.oci.image.layer.v1.tar"
	mediaTypeConfig   = "application/vnd.oci.image.config.v1+json"
	mediaTypeManifest = "application/vnd.oci.image.manifest.v1+json"
	// Where the image's full name stands in an archive; the registry reads it.
	nameAnnotation = "io.containerd.image.name"
)

type object = map[string]any

// writeImage packs the folder root as the one layer of an OCI image named name,
// into the archive out. All files become root's and lose their times, so the
// same folder gives the same digest.
func writeImage(name, root, out string, entrypoint []string) error {
	layer, err := os.CreateTemp(filepath.Dir(out), ".layer-*")
	if err != nil {
		return err
	}
	defer os.Remove(layer.Name())
	defer layer.Close()
	sum := sha256.New()
	if err := tarFolder(root, io.MultiWriter(layer, sum)); err != nil {
		return err
	}
	// The archive appears at once or not at all: the registry looks for new ones at any time.
	part, err := os.CreateTemp(filepath.Dir(out), ".image-*")
	if err != nil {
		return err
	}
	defer os.Remove(part.Name())
	defer part.Close()
	if err := writeArchive(part, name, layer, sum, entrypoint); err != nil {
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

func writeArchive(out io.Writer, name string, layer *os.File, layerSum hash.Hash, entrypoint []string) error {
	size, err := layer.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if _, err := layer.Seek(0, io.SeekStart); err != nil {
		return err
	}
	layerHex := fmt.Sprintf("%x", layerSum.Sum(nil))
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

	if err := add("blobs/sha256/"+layerHex, size, layer); err != nil {
		return err
	}
	config, err := addJSON(mediaTypeConfig, object{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": object{"Entrypoint": entrypoint, "Env": []string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}},
		"rootfs": object{"type": "layers", "diff_ids": []string{"sha256:" + layerHex}},
	})
	if err != nil {
		return err
	}
	manifest, err := addJSON(mediaTypeManifest, object{
		"schemaVersion": 2, "mediaType": mediaTypeManifest, "config": config,
		"layers": []object{{"mediaType": mediaTypeLayer, "digest": "sha256:" + layerHex, "size": size}},
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
