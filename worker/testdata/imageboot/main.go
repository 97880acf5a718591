// Imageboot is the program of test images: a runtime client without any library, that answers what it sees around it.
package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
)

func main() {
	api := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
	for {
		resp, err := http.Get(api + "next")
		if err != nil {
			os.Exit(1)
		}
		event, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		answer, _ := json.Marshal(look(event))
		resp, err = http.Post(api+resp.Header.Get("Lambda-Runtime-Aws-Request-Id")+"/response", "application/json", bytes.NewReader(answer))
		if err != nil {
			os.Exit(1)
		}
		resp.Body.Close()
	}
}

// look reports the file that the event names, and the process's surroundings.
func look(event []byte) map[string]any {
	var name string
	json.Unmarshal(event, &name)
	text, _ := os.ReadFile(name)
	dir, _ := os.Getwd()
	passwd, _ := os.ReadFile("/etc/passwd")
	root, _ := filepath.Glob("/*")
	return map[string]any{
		"file": string(text), "args": os.Args[1:], "dir": dir, "uid": os.Getuid(), "env": os.Getenv("IMAGE_ENV"), "own": os.Getenv("OWN_ENV"),
		"execution": os.Getenv("AWS_EXECUTION_ENV"), "known": bytes.Contains(passwd, []byte("sbx_user1051")), "root": root,
		"rootWritable": os.WriteFile("/probe", nil, 0o644) == nil, "homeWritable": os.WriteFile("/app/probe", nil, 0o644) == nil,
		"tmpWritable": os.WriteFile("/tmp/probe", nil, 0o644) == nil,
	}
}
