package main

// The steps that compute vectors and compare them.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	pb "github.com/cognateserver/cognate/clients/go/cognatev1"
)

func (s *scenario) info(ctx context.Context) {
	info, err := s.client.Info(ctx, &pb.InfoRequest{})
	must(err)
	check(info.Version != "" && info.Model.Dimensions == dimensions, "%v", info)
	var limit uint64 = info.Limits.MaxMessageBytes
	check(limit == maxMessageBytes, "max_message_bytes is %d", limit)
}

func (s *scenario) embed(ctx context.Context) {
	response, err := s.client.Embed(ctx, &pb.EmbedRequest{
		Texts:      []string{"a cat", strings.Repeat("word ", 2000), "a dog"},
		Truncation: pb.Truncation_TRUNCATION_REJECT,
	})
	must(err)
	check(len(response.Results) == 3, "%d results", len(response.Results))
	for i, result := range response.Results {
		if i == 1 {
			checkField(result.GetError(), "texts[1]")
		} else {
			check(len(result.GetVector().GetValues()) == dimensions, "result %d: %v", i, result)
		}
	}
}

func (s *scenario) embedInt8(ctx context.Context) {
	floats := s.vector(ctx, pb.VectorFormat_VECTOR_FORMAT_F32).Values
	vector := s.vector(ctx, pb.VectorFormat_VECTOR_FORMAT_INT8)
	check(len(vector.Data) == dimensions, "%d bytes", len(vector.Data))
	read := make([]float32, dimensions)
	for i, code := range vector.Data {
		read[i] = float32(int8(code)) * vector.Scale
	}
	check(cosine(read, floats) > 0.99, "the cosine is %f", cosine(read, floats))
}

// vector returns the vector of "text 0".
func (s *scenario) vector(ctx context.Context, format pb.VectorFormat) *pb.Vector {
	response, err := s.client.Embed(ctx, &pb.EmbedRequest{Texts: []string{"text 0"}, Format: format})
	must(err)
	return response.Results[0].GetVector()
}

func (s *scenario) embedStream(ctx context.Context) {
	stream, err := s.client.EmbedStream(ctx)
	must(err)
	for i := range 10 {
		request := &pb.EmbedRequest{Texts: []string{fmt.Sprintf("text %d", i)}}
		if i == 4 {
			request.Dimensions = dimensions + 1
		}
		must(stream.Send(request))
	}
	must(stream.CloseSend())
	first := s.vector(ctx, pb.VectorFormat_VECTOR_FORMAT_F32)
	for i := range 10 {
		response, err := stream.Recv()
		must(err)
		check(len(response.Results) == 1, "answer %d: %v", i, response)
		values := response.Results[0].GetVector().GetValues()
		switch i {
		case 0:
			check(cosine(values, first.Values) > 0.9999, "the first vector is another one")
		case 4:
			checkField(response.Results[0].GetError(), "dimensions")
		default:
			check(len(values) == dimensions && cosine(values, first.Values) < 0.9999, "answer %d: %v", i, response)
		}
	}
	_, err = stream.Recv()
	check(errors.Is(err, io.EOF), "after the last answer: %v", err)
}

func (s *scenario) similarity(ctx context.Context) {
	response, err := s.client.Similarity(ctx, &pb.SimilarityRequest{
		A: []string{"a cat", "a train"}, B: []string{"a kitten", "a railway"},
	})
	must(err)
	check(len(response.Rows) == 2, "%v", response)
	check(response.Rows[0].Scores[0] > response.Rows[0].Scores[1], "%v", response)
	check(response.Rows[1].Scores[1] > response.Rows[1].Scores[0], "%v", response)
}
