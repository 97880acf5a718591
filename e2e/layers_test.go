package e2e

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"berth/client"
)

// layer publishes a layer and returns its version's ARN.
func layer(t *testing.T, c *client.Client, name string, zip []byte) string {
	t.Helper()
	out, err := c.Lambda.PublishLayerVersion(t.Context(), &lambda.PublishLayerVersionInput{
		LayerName: &name, Content: &types.LayerVersionContentInput{ZipFile: zip}})
	if err != nil {
		t.Fatalf("PublishLayerVersion: %v", err)
	}
	return aws.ToString(out.LayerVersionArn)
}

// layered is a function with layers: the second has the last word.
type layered struct {
	source
	code   func(t *testing.T) []byte
	layers func(t *testing.T) [][]byte
}

var layeredSources = []layered{
	{sources[0], func(t *testing.T) []byte {
		return zipOf(t, "app.py", "import os, subprocess\nimport shared, extra\n\ndef handler(event, context):\n"+
			"    tool = subprocess.run(['tool'], capture_output=True, text=True).stdout.strip()\n"+
			"    return {'answer': shared.WORD + extra.WORD + tool + open('/opt/data.txt').read(), 'event': event}\n")
	}, func(t *testing.T) [][]byte {
		return [][]byte{
			zipOf(t, "python/shared.py", "WORD = 'old '\n", "python/lib/"+pythonRuntime(t)+"/site-packages/extra.py", "WORD = 'extra '\n", "data.txt", "one"),
			zipOf(t, "python/shared.py", "WORD = 'new '\n", "bin/tool", "#!/bin/sh\necho 'tool '\n", "data.txt", " two"),
		}
	}},
	{sources[1], func(t *testing.T) []byte {
		return zipOf(t, "app.js", "const shared = require('shared');\nconst fs = require('fs');\n"+
			"exports.handler = async (event) => ({answer: shared + 'extra tool' + fs.readFileSync('/opt/data.txt'), event});\n")
	}, func(t *testing.T) [][]byte {
		return [][]byte{
			zipOf(t, "nodejs/node_modules/shared/index.js", "module.exports = 'old ';\n", "data.txt", "one"),
			zipOf(t, "nodejs/node_modules/shared/index.js", "module.exports = 'new ';\n", "data.txt", " two"),
		}
	}},
	// A provided runtime's program may come from a layer.
	{sources[2], func(t *testing.T) []byte { return zipOf(t, "answer.txt", "new extra tool two") },
		func(t *testing.T) [][]byte {
			program, err := goProgram()
			if err != nil {
				t.Fatalf("building the Go function: %v\n%s", err, program)
			}
			return [][]byte{zipOf(t, "bootstrap", "not this one"), zipOf(t, "bootstrap", program)}
		}},
}

// TestLayers runs functions with two layers, which are then deleted: the function keeps what it has.
func TestLayers(t *testing.T) {
	for _, s := range layeredSources {
		t.Run(s.language, func(t *testing.T) {
			c := sharedClient(t)
			name := "layers-" + s.language
			var arns []string
			for i, zip := range s.layers(t) {
				arns = append(arns, layer(t, c, name+string(rune('a'+i)), zip))
			}
			create(t, c, &lambda.CreateFunctionInput{
				FunctionName: &name, Runtime: types.Runtime(s.runtime(t)), Handler: &s.handler, Layers: arns,
				Code: &types.FunctionCode{ZipFile: s.code(t)},
			})
			wantAnswer(t, c, name, "", "new extra tool two")
			for i := range arns {
				_, err := c.Lambda.DeleteLayerVersion(t.Context(), &lambda.DeleteLayerVersionInput{LayerName: aws.String(name + string(rune('a'+i))), VersionNumber: aws.Int64(1)})
				if err != nil {
					t.Fatal(err)
				}
			}
			reconfigure(t, c, &lambda.UpdateFunctionConfigurationInput{FunctionName: &name, MemorySize: aws.Int32(256)}) // a new environment
			wantAnswer(t, c, name, "", "new extra tool two")
			published := publish(t, c, name)

			reconfigure(t, c, &lambda.UpdateFunctionConfigurationInput{FunctionName: &name, Layers: []string{}})
			out := invoke(t, c, &lambda.InvokeInput{FunctionName: &name, Payload: []byte(`{}`)})
			if out.FunctionError == nil {
				t.Errorf("without its layers it answered %s", out.Payload)
			}
			wantAnswer(t, c, name, published, "new extra tool two") // a version keeps its layers
		})
	}
}

func reconfigure(t *testing.T, c *client.Client, in *lambda.UpdateFunctionConfigurationInput) {
	t.Helper()
	if _, err := c.Lambda.UpdateFunctionConfiguration(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	waitUpdated(t, c, *in.FunctionName)
}

// TestLayerDownload fetches a layer's content from where GetLayerVersion says that it is.
func TestLayerDownload(t *testing.T) {
	c := sharedClient(t)
	zip := zipOf(t, "data.txt", "content")
	arn := layer(t, c, "download", zip)
	out, err := c.Lambda.GetLayerVersionByArn(t.Context(), &lambda.GetLayerVersionByArnInput{Arn: &arn})
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, *out.Content.Location, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if got, err := io.ReadAll(answer.Body); err != nil || !bytes.Equal(got, zip) {
		t.Errorf("%s: %d bytes, %v; want the %d uploaded ones", answer.Status, len(got), err, len(zip))
	}
}
