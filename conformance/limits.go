package conformance

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/base64"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
)

// Sizes of test_*_lambda and test_large_environment_*, in bytes.
const (
	maxUnzipped = 262144000
	maxEnv      = 4096
)

func limitScenarios() []scenario {
	const tests = "api::TestLambdaSizeLimits::"
	return []scenario{
		{id: tests + "test_large_environment_variables_fails", run: func(s *session) {
			// One byte too many: {"LARGE_VAR":"…"} adds 7 to the key and the value.
			env := params{"LARGE_VAR": strings.Repeat("x", maxEnv-6-len("LARGE_VAR"))}
			s.note("failed_create_fn_result", s.call("CreateFunction", with(valid("large-envvar-lambda-"+uid()), params{"Environment": params{"Variables": env}})))
		}},
		{id: tests + "test_large_environment_fails_multiple_keys",
			run: func(s *session) {
				env := params{"SMALL_VAR": "ok", "LARGE_VAR": strings.Repeat("x", 4064)}
				s.note("failured_create_fn_result_multi_key", s.call("CreateFunction", with(valid("large-envvar-lambda-"+uid()), params{"Environment": params{"Variables": env}})))
			}},
		{id: tests + "test_oversized_lambda", run: func(s *session) {
			s.note("invalid_param_exc", s.call("CreateFunction", with(valid("test_lambda_"+uid()), params{
				"Handler": "handler.handler", "Timeout": 10, "Code": params{"ZipFile": sized(maxUnzipped)}})))
		}},
		{id: tests + "test_large_lambda", run: func(s *session) {
			s.note("create_function_large_zip", s.create("test_lambda_"+uid(), params{
				"Handler": "handler.handler", "Timeout": 10, "Code": params{"ZipFile": sized(maxUnzipped - 1000)}}))
		}},
	}
}

// filled returns a zip of n bytes, base64: one stored file whose text takes what the rest leaves.
func filled(name string, n int) string {
	for length := 0; ; length++ {
		var b bytes.Buffer
		w := zip.NewWriter(&b)
		f, err := w.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		if err == nil {
			_, err = f.Write(bytes.Repeat([]byte("#"), length))
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil || b.Len() > n {
			panic("no zip of that size") // a mistake in a scenario
		}
		if b.Len() == n {
			return base64.StdEncoding.EncodeToString(b.Bytes())
		}
	}
}

// sized returns a zip whose files have n bytes together. One compressed mebibyte stands in it many times, so that neither
// making nor sending it takes long.
func sized(n int) string {
	const chunk = 1 << 20
	var packed, out bytes.Buffer
	text := []byte(strings.Repeat("#", chunk))
	deflate, err := flate.NewWriter(&packed, flate.BestSpeed)
	if err == nil {
		_, err = deflate.Write(text)
	}
	if err == nil {
		err = deflate.Close()
	}
	w := zip.NewWriter(&out)
	for i := 0; err == nil && n >= 2*chunk; i++ {
		var f io.Writer
		f, err = w.CreateRaw(&zip.FileHeader{Name: "data/" + strconv.Itoa(i), Method: zip.Deflate, CRC32: crc32.ChecksumIEEE(text),
			CompressedSize64: uint64(packed.Len()), UncompressedSize64: chunk})
		if err == nil {
			_, err = f.Write(packed.Bytes())
		}
		n -= chunk
	}
	if err == nil {
		err = add(w, "handler.py", echo+strings.Repeat("#", n-len(echo)))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err) // a buffer does not fail
	}
	return base64.StdEncoding.EncodeToString(out.Bytes())
}
