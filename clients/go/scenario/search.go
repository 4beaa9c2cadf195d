package main

// The steps that search.

import (
	"context"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/cognateserver/cognate/clients/go/cognatev1"
)

// hits returns the hits of a call with one query.
func (s *scenario) hits(ctx context.Context, request *pb.TopKRequest) []*pb.Hit {
	response, err := s.client.TopK(ctx, request)
	must(err)
	check(len(response.Results) == 1 && response.Results[0].Error == nil, "%v", response)
	return response.Results[0].Hits
}

func byText(text string) []*pb.Query {
	return []*pb.Query{{Query: &pb.Query_Text{Text: text}}}
}

// checkFound demands that document 42 is the first of three hits, and returns it.
func (s *scenario) checkFound(ctx context.Context, query *pb.Query) *pb.Hit {
	hits := s.hits(ctx, &pb.TopKRequest{
		Collection: collection, Queries: []*pb.Query{query}, K: 3,
		WithText: true, WithMetadata: true, WithVector: true,
	})
	check(len(hits) == 3 && hits[0].Id == id(42), "%v", hits)
	return hits[0]
}

func (s *scenario) topKText(ctx context.Context) {
	hit := s.checkFound(ctx, byText(text(42))[0])
	check(hit.Text == text(42), "%s", hit.Text)
	check(proto.Equal(hit.Metadata, document(42).Metadata), "%v", hit.Metadata)
	s.found = hit
}

func (s *scenario) topKVector(ctx context.Context) {
	s.checkFound(ctx, &pb.Query{Query: &pb.Query_Vector{Vector: s.found.Vector}})
}

func (s *scenario) topKID(ctx context.Context) {
	s.checkFound(ctx, &pb.Query{Query: &pb.Query_Id{Id: id(42)}})
}

func textFilter(text string) *pb.Filter {
	return &pb.Filter{Condition: &pb.Filter_Text{Text: text}}
}

func equals(path string, value *structpb.Value) *pb.Filter {
	condition := &pb.EqualsCondition{Path: proto.String(path), Value: value}
	return &pb.Filter{Condition: &pb.Filter_Equals{Equals: condition}}
}

func (s *scenario) filter(ctx context.Context) {
	between := &pb.RangeCondition{Path: proto.String("number"), Gte: proto.Float64(100), Lt: proto.Float64(900)}
	tags := &pb.InCondition{
		Path:   proto.String("tags"),
		Values: []*structpb.Value{structpb.NewStringValue("t2"), structpb.NewStringValue("t9")},
	}
	either := &pb.FilterList{Filters: []*pb.Filter{
		{Condition: &pb.Filter_OneOf{OneOf: tags}},
		equals("number", structpb.NewNumberValue(-1)),
	}}
	all := &pb.FilterList{Filters: []*pb.Filter{
		{Condition: &pb.Filter_Range{Range: between}},
		{Condition: &pb.Filter_Negated{Negated: equals("even", structpb.NewBoolValue(true))}},
		{Condition: &pb.Filter_Exists{Exists: &pb.ExistsCondition{Path: proto.String("author.name")}}},
		{Condition: &pb.Filter_AnyOf{AnyOf: either}},
	}}
	messages := s.matching(ctx, &pb.Filter{Condition: &pb.Filter_AllOf{AllOf: all}})
	check(len(messages) == 134 && messages[0] == id(101) && messages[133] == id(899), "%v", messages)
	text := s.matching(ctx, textFilter(
		`100 <= number < 900 and not even = true and author.name exists and (tags in ("t2", "t9") or number = -1)`))
	check(slices.Equal(text, messages), "by messages %v\nby text %v", messages, text)
}

// matching returns the ids of the documents that match a filter, in order.
func (s *scenario) matching(ctx context.Context, filter *pb.Filter) []string {
	request := &pb.TopKRequest{Collection: collection, Queries: byText("a dog"), K: 1000, Filter: filter}
	var ids []string
	for _, hit := range s.hits(ctx, request) {
		ids = append(ids, hit.Id)
	}
	slices.Sort(ids)
	return ids
}

func (s *scenario) candidates(ctx context.Context) {
	hits := s.hits(ctx, &pb.TopKRequest{
		Queries: byText("a vehicle on rails"), Candidates: []string{"a train", "a loaf of bread", "a cat"}, K: 3,
	})
	check(len(hits) == 3, "%v", hits)
	for _, hit := range hits {
		check(hit.Candidate != nil, "%v", hit)
	}
	check(*hits[0].Candidate == 0, "%v", hits[0])
	check(s.found.Candidate == nil, "a document is no candidate: %v", s.found.Candidate)
}
