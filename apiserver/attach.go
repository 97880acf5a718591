package apiserver

import (
	"slices"
	"strings"

	"berth/catalog"
	"berth/lambda"
)

// maxLayers is how many layers a function may have (developer guide).
const maxLayers = 5

// attachment is the layers that a request gives a function; nil leaves those it has.
type attachment struct {
	shown []catalog.AttachedLayer
	zips  []lambda.CodeDigest
}

// attach finds the layers that a function is to have. The texts are recorded (test_layer_function_exceptions) but that on
// their number, which is as users report it.
func (s *Server) attach(c *call, arns []string) (*attachment, error) {
	if arns == nil {
		return nil, nil
	}
	if len(arns) > maxLayers {
		return nil, invalid("Cannot reference more than %d layers.", maxLayers)
	}
	var a attachment
	var layers []string
	for _, arn := range arns {
		v, layer, err := s.attachable(c, arn)
		if err != nil {
			return nil, err
		}
		if i := slices.Index(layers, layer); i >= 0 {
			return nil, invalid("Two different versions of the same layer are not allowed to be referenced in the same function. "+
				"%s and %s are versions of the same layer.", arns[i], arn)
		}
		layers = append(layers, layer)
		a.shown = append(a.shown, catalog.AttachedLayer{ARN: arn, Size: v.CodeBytes, Unpacked: v.Unpacked})
		a.zips = append(a.zips, v.Code)
	}
	return &a, nil
}

// attachable finds one layer's version by its ARN.
func (s *Server) attachable(c *call, arn string) (v *catalog.LayerVersion, layer string, err error) {
	missing := invalid("Layer version %s does not exist.", arn)
	if strings.Contains(arn, ":awslayer:") {
		return nil, "", missing
	}
	layer, n, err := splitLayerVersion(arn)
	if err != nil {
		return nil, "", missing
	}
	parts := strings.Split(layer, ":")
	if len(parts) != 7 {
		return nil, "", missing
	}
	if region := s.cfg.Catalog.Region(); parts[3] != region {
		return nil, "", invalid("Layers are not in the same region as the function. Layers are expected to be in region %s.", region)
	}
	id := catalog.LayerID{Account: lambda.AccountID(parts[4]), Name: parts[6]}
	if err := s.permitLayer(c, id, n); err != nil {
		return nil, "", err
	}
	v, ok := s.cfg.Catalog.LayerVersion(id, n)
	if !ok {
		return nil, "", missing
	}
	return v, layer, nil
}

// apply gives a version these layers.
func (a *attachment) apply(v *catalog.Version) {
	if a != nil {
		v.Attached, v.Layers = a.shown, a.zips
	}
}

// checkUnpacked refuses a version whose code and layers are too large together. Text as users report it.
func checkUnpacked(v *catalog.Version) error {
	size := v.Unpacked
	for _, l := range v.Attached {
		size += l.Unpacked
	}
	if len(v.Attached) > 0 && size >= lambda.MaxUnpacked {
		return invalid("Function code combined with layers exceeds the maximum allowed size of %d bytes. The actual size is %d bytes.",
			lambda.MaxUnpacked, size)
	}
	return nil
}
